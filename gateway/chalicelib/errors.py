"""What can go wrong between a visitor and a picture, each with the status that answers it.

    GatewayError
    ├── InvalidRequest         400  a field is wrong; names it
    ├── PromptRefused          400  the prompt filter refused the prompt
    ├── PictureRefused         400  the model's own check refused the picture
    ├── Unauthorized           401  a key or a link is needed, and there is no valid one
    ├── RateLimited            429  too many pictures of late, or a link has none left
    ├── NotOffered             404  there is no such model here, or nothing that does this
    ├── JobUnknown             404  nobody asked for this picture here, or it is forgotten
    ├── JobFailed              502  the picture was tried and did not come about
    ├── InternalError          500  nobody foresaw it; the log has the rest
    ├── EndpointFailed         502  the model reported a failure of its own
    ├── EndpointForbidden      502  the gateway may not call the endpoint
    ├── BadPicture             502  the endpoint's answer is no whole picture, or is too large
    ├── ConnectionCut          502  the connection broke before the answer was whole
    ├── EndpointMissing        503  there is no such endpoint at the moment
    ├── EndpointBusy           503  throttled, overloaded, or still starting
    ├── EndpointUnreachable    503  no connection could be made
    ├── JobExpired             503  the picture was lost on the way, or is kept no longer
    ├── StillPainting          503  not ready after as many hops as the client follows
    ├── TooManyWaiting         503  as many visitors wait as may
    ├── StoreUnavailable       503  S3 did not answer as it should
    └── EndpointTooSlow        504  no answer before API Gateway would give up

Messages are written for the visitor: they hold no ARN, no account and nothing a library said.
"""

from __future__ import annotations

from typing import ClassVar


class GatewayError(Exception):
    """A failure with an answer; raising it is the whole job.

    Attributes:
        status: the HTTP status code.
        code: a stable name for programs.
        retry_after: seconds after which the same request may succeed; None if it never will.
        resend: whether a client library may send the request again by itself.
        field: the request's field that is at fault, if one is.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    retry_after: int | None = None
    resend: ClassVar[bool] = True

    def __init__(self, message: str, field: str | None = None) -> None:
        self.message = message
        self.field = field
        super().__init__(message)


class InvalidRequest(GatewayError):
    """A field is missing, unknown or outside its limits."""

    status = 400
    code = "invalid_request"


class PromptRefused(GatewayError):
    """The prompt filter found words in the prompt that are not painted here."""

    status = 400
    code = "moderation_blocked"


class PictureRefused(GatewayError):
    """The model's own check found the picture unfit to show."""

    status = 400
    code = "moderation_blocked"


class Unauthorized(GatewayError):
    """A key or a signed link is needed here; there was none, or it is wrong or has expired."""

    status = 401
    code = "unauthorized"


class RateLimited(GatewayError):
    """Too many pictures were asked for in the last minute, or the link has none left.

    A client library that resends by itself would only run into the same limit.
    """

    status = 429
    code = "rate_limited"
    retry_after = 60
    resend = False

    def __init__(self, message: str, retry_after: int = 60) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotOffered(GatewayError):
    """There is no such model here, or nothing that does what is asked for."""

    status = 404
    code = "not_offered"


class InternalError(GatewayError):
    """Something that nobody foresaw; what it was stands in the log, under the request's id."""

    status = 500
    code = "internal_error"


class EndpointFailed(GatewayError):
    """The model reported a failure of its own."""

    status = 502
    code = "endpoint_failed"
    retry_after = 10


class EndpointForbidden(GatewayError):
    """The gateway's role or credentials do not allow the call; a person has to mend that."""

    status = 502
    code = "endpoint_forbidden"
    retry_after = 300


class BadPicture(GatewayError):
    """What came back is not a whole picture of the format asked for, or too large to pass on."""

    status = 502
    code = "bad_picture"
    retry_after = 10


class ConnectionCut(GatewayError):
    """The connection to the endpoint broke before the answer was whole."""

    status = 502
    code = "connection_cut"
    retry_after = 5


class EndpointMissing(GatewayError):
    """The model's endpoint does not exist, or is being created or deleted."""

    status = 503
    code = "endpoint_missing"
    retry_after = 60


class EndpointBusy(GatewayError):
    """The endpoint has more to do than it can take, or is still loading its model."""

    status = 503
    code = "endpoint_busy"
    retry_after = 15


class EndpointUnreachable(GatewayError):
    """No connection to SageMaker could be made; the request never left."""

    status = 503
    code = "endpoint_unreachable"
    retry_after = 15


class JobUnknown(GatewayError):
    """Nobody asked for this picture here, or it was so long ago that it is forgotten."""

    status = 404
    code = "job_unknown"


class JobFailed(GatewayError):
    """The picture was tried and did not come about; asking for it anew tries again."""

    status = 502
    code = "job_failed"
    retry_after = 10


class JobExpired(GatewayError):
    """The picture was lost on the way, or is kept no longer; asking for it anew paints it again."""

    status = 503
    code = "job_expired"
    retry_after = 1


class StillPainting(GatewayError):
    """The picture is not ready after as many redirects as the client follows; its URL has it later.

    Clients that resend by themselves would only begin to wait anew, so they are told not to.
    """

    status = 503
    code = "still_painting"
    retry_after = 30
    resend = False


class TooManyWaiting(GatewayError):
    """As many visitors wait for pictures as this gateway lets wait at once."""

    status = 503
    code = "too_many_waiting"
    retry_after = 15


class StoreUnavailable(GatewayError):
    """S3, where pictures and the state of their jobs are kept, did not answer as it should."""

    status = 503
    code = "store_unavailable"
    retry_after = 10


class EndpointTooSlow(GatewayError):
    """The picture was not ready before the gateway's own deadline.

    The GPU works on, and a client that resends by itself would make it paint twice.
    """

    status = 504
    code = "endpoint_too_slow"
    retry_after = 30
    resend = False
