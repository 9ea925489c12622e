"""The server's own errors, and what an exception of a script means.

    ServerError
    ├── Refused   503  busy, starting, stopping    with Retry-After: nothing was generated
    └── others    400, 404, 405, 408, 413, 500, 504, 507

The bodies have the shape of the model package's errors:
`{"error": {"code": ..., "message": ..., "field": ...}}`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from typing import Any

# The statuses of requests whose body was not read to its end.
_UNREAD_BODY = {408, 413}


class ServerError(Exception):
    """A response that is not a picture.

    Attributes:
        status: of HTTP.
        code: in the body, for programs.
        field: the name of the field or header at fault, if it is one.
    """

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.field = status, code, field

    @property
    def headers(self) -> dict[str, str]:
        """Headers besides those of every response."""
        # The rest of the body would be read as the next request.
        return {"Connection": "close"} if self.status in _UNREAD_BODY else {}

    def error(self) -> dict[str, Any]:
        """Return the `error` of the response body."""
        error = {"code": self.code, "message": str(self)}
        return error if self.field is None else {**error, "field": self.field}

    def body(self) -> bytes:
        """Return the response body."""
        return json.dumps({"error": self.error()}).encode()


class Refused(ServerError):
    """503: nothing was generated, and the same request can work later.

    Attributes:
        retry_after: seconds until it is worth another try.
    """

    def __init__(self, code: str, message: str, retry_after: float) -> None:
        super().__init__(503, code, message)
        # Not earlier; but a few milliseconds on the way of a request are no second. SageMaker's
        # longest invocation takes an hour.
        self.retry_after = max(1, math.ceil(round(min(3600, retry_after), 1)))

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after)}

    def error(self) -> dict[str, Any]:
        # Also in the body, because SageMaker passes on no header of an error.
        return {**super().error(), "retry_after": self.retry_after}


def too_slow() -> ServerError:
    """Return the error for a request whose deadline has passed."""
    return ServerError(504, "too_slow", "The picture was not finished in time, so it was abandoned")


def unreadable(error: Exception) -> ServerError:
    """Return the error for a request that the script could not read."""
    return ServerError(400, "invalid_request", str(error) or type(error).__name__)


def failed(error: BaseException) -> ServerError:
    """Return the error for a run that failed; its text is for the log alone."""
    if is_out_of_memory(error):
        return ServerError(507, "out_of_memory", "The model ran out of memory.")
    message = "Image generation failed; the server's log has the reason."
    return ServerError(500, "generation_failed", message)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of a script says that memory was used up."""
    # PyTorch's CPU allocator, cuBLAS and cuDNN raise a plain RuntimeError.
    texts = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return any(
        isinstance(each, MemoryError) or any(text in str(each).lower() for text in texts)
        for each in _chain(error)
    )


# CUDA's errors after which every later call of the process fails as well:
# https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html
_STICKY = (
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "misaligned address",
    "illegal instruction",
    "illegal address",
    "invalid program counter",
    "hardware stack error",
    "uncorrectable ecc error",
    "launch timed out",
    "unable to determine the device handle",
    "gpu has fallen off the bus",
)


def is_sticky(error: object) -> bool:
    """Whether a failure has left CUDA unusable for the rest of this process's life."""
    if not isinstance(error, BaseException):
        return False
    texts = [str(each).lower() for each in _chain(error)]
    if any(sign in text for text in texts for sign in _STICKY):
        return True
    # A failed run may be reported by any text; CUDA itself repeats a sticky error.
    return _cuda_fails()


def _cuda_fails() -> bool:
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
