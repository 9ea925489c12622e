"""The errors, each with its HTTP status and its code in the response body.

    EaselError
    ├── InvalidRequest       400  invalid_request     names the field
    ├── ModerationBlocked    422  moderation_blocked
    ├── OutOfMemory          507  out_of_memory
    ├── AdaptersUnavailable  503  adapters_unavailable  says when to try again
    ├── TooSlow              504  too_slow
    ├── GenerationFailed     500  generation_failed
    └── ModelUnusable        500  model_unusable      the reason is for the log alone
        └── SettingInvalid   500  model_unusable      names the environment variable

The toolkit turns any exception into a 400 with the exception's text. So the functions that it calls
return an `EaselError` instead of raising it, and `output_fn` writes it as the response.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from easel import log
from generation import InvalidField

Result = TypeVar("Result")


class EaselError(Exception):
    """A failure with a response of its own; its text may be shown to the caller."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "generation_failed"
    phrase: ClassVar[str] = "Internal Server Error"

    def to_dict(self) -> dict[str, Any]:
        """Return the response body."""
        return {"error": {"code": self.code, "message": str(self)}}


class InvalidRequest(EaselError):
    """A field of the request is missing, unknown or outside its limits.

    Attributes:
        field: the field's name; None if no single field is the cause.
    """

    status, code, phrase = 400, "invalid_request", "Bad Request"

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field

    @classmethod
    def of(cls, error: InvalidField) -> InvalidRequest:
        """Translate the error of `generation`."""
        return cls(str(error), error.field)

    def to_dict(self) -> dict[str, Any]:
        body = super().to_dict()
        if self.field is not None:
            body["error"]["field"] = self.field
        return body


class ModerationBlocked(EaselError):
    """The model's safety checker blocked the image."""

    # 422 and not 400: the request is valid, and another seed may pass.
    status, code, phrase = 422, "moderation_blocked", "Unprocessable Content"


class OutOfMemory(EaselError):
    """The image did not fit; its memory is free again, so a smaller size may work."""

    # 507 and not 503: the same request would fail again.
    status, code, phrase = 507, "out_of_memory", "Insufficient Storage"


class AdaptersUnavailable(EaselError):
    """A published LoRA adapter could not be looked up; nothing was generated.

    Attributes:
        retry_after: seconds until it is looked up again.
    """

    status, code, phrase = 503, "adapters_unavailable", "Service Unavailable"
    retry_after: ClassVar[int] = 10

    def to_dict(self) -> dict[str, Any]:
        body = super().to_dict()
        # In the body, because SageMaker passes on no header of an error.
        body["error"]["retry_after"] = self.retry_after
        return body


class TooSlow(EaselError):
    """The caller's deadline passed, so the run was stopped, or never started."""

    status, code, phrase = 504, "too_slow", "Gateway Timeout"


class GenerationFailed(EaselError):
    """Any other failure; the log has the traceback."""


class ModelUnusable(EaselError):
    """The model or the settings are invalid; the text is for the log alone."""

    code = "model_unusable"

    def to_dict(self) -> dict[str, Any]:
        # The reason can contain paths and settings, so callers get a fixed text.
        message = "The model could not be loaded; the endpoint's log has the reason."
        return {"error": {"code": self.code, "message": message}}


class SettingInvalid(ModelUnusable):
    """An environment variable that cannot be read."""


def guard(step: Callable[..., Result], *arguments: object) -> Result | EaselError:
    """Return the result of `step`, or its failure as an `EaselError`; raise no `Exception`."""
    try:
        return step(*arguments)
    except InvalidField as error:
        return InvalidRequest.of(error)
    except ModelUnusable as error:  # before its base class, which is not logged
        log.failure("model_unusable", error)
        return error
    except EaselError as error:
        return error
    except Exception as error:  # noqa: BLE001 - else the toolkit shows its text to the caller
        log.failure("generation_failed", error)
        failed = GenerationFailed("Image generation failed; the endpoint's log has the reason.")
        # For a server that has to know whether CUDA still works. Without its frames, which keep the
        # run's tensors alive.
        failed.__cause__ = error.with_traceback(None)
        return failed
