"""What can go wrong, each with its HTTP status and its code in the answer's body.

    EaselError
    ├── InvalidRequest       400  invalid_request     names the field
    ├── ModerationBlocked    422  moderation_blocked
    ├── OutOfMemory          503  out_of_memory
    ├── GenerationFailed     500  generation_failed
    └── ModelUnusable        500  model_unusable      for the log; callers learn no more than that
        └── SettingInvalid   500  model_unusable      names the environment variable

The toolkit answers any exception that escapes with an anonymous 400 and its text, so the functions
it calls return an `EaselError` in place of their result, and `output_fn` answers with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from easel import log
from generation import InvalidField

Result = TypeVar("Result")


class EaselError(Exception):
    """A failure that has an answer; its text may be shown to whoever asked for the picture."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "generation_failed"
    phrase: ClassVar[str] = "Internal Server Error"

    def to_dict(self) -> dict[str, Any]:
        """Return the answer's body."""
        return {"error": {"code": self.code, "message": str(self)}}


class InvalidRequest(EaselError):
    """Something in the request that is missing, unknown or outside its limits.

    Attributes:
        field: the field's name, or None when no single field is to blame.
    """

    status, code, phrase = 400, "invalid_request", "Bad Request"

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field

    @classmethod
    def of(cls, error: InvalidField) -> InvalidRequest:
        """Translate the contract's own error."""
        return cls(str(error), error.field)

    def to_dict(self) -> dict[str, Any]:
        body = super().to_dict()
        if self.field is not None:
            body["error"]["field"] = self.field
        return body


class ModerationBlocked(EaselError):
    """The model's own safety checker refuses to show the picture."""

    status, code, phrase = 422, "moderation_blocked", "Unprocessable Content"


class OutOfMemory(EaselError):
    """The picture did not fit; what it took has been given back, so a smaller one may work."""

    status, code, phrase = 503, "out_of_memory", "Service Unavailable"


class GenerationFailed(EaselError):
    """Anything unforeseen; the log has the traceback."""


class ModelUnusable(EaselError):
    """The model or the settings do not allow painting; its text is for the log alone."""

    code = "model_unusable"

    def to_dict(self) -> dict[str, Any]:
        message = "The model could not be loaded; the endpoint's log says why."
        return {"error": {"code": self.code, "message": message}}


class SettingInvalid(ModelUnusable):
    """An environment variable that cannot be read."""


def guard(step: Callable[..., Result], *arguments: object) -> Result | EaselError:
    """Return what `step` returns, or the error to answer with; never raises an `Exception`."""
    try:
        return step(*arguments)
    except InvalidField as error:
        return InvalidRequest.of(error)
    except ModelUnusable as error:
        log.failure("model_unusable", error)
        return error
    except EaselError as error:
        return error
    except Exception as error:  # noqa: BLE001 - the toolkit would show its text to the caller
        log.failure("generation_failed", error)
        return GenerationFailed("The picture could not be made; the endpoint's log says why.")
