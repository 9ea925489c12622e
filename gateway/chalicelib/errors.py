"""What can go wrong with a request, each with the status of its response.

    GatewayError
    ├── CallerFault                    the caller has to change the request
    │   ├── InvalidRequest         400  a field is missing, unknown or outside its limits
    │   ├── PromptRefused          400  the prompt filter refused the prompt
    │   ├── PictureRefused         400  the model's own check refused the picture
    │   ├── Unauthorized           401  no valid key, session or link
    │   ├── RateLimited            429  too many pictures in the last minute, or a link is used up
    │   ├── UsageNeedsKey          403  links and open gateways do not see what is used
    │   ├── NotOffered             404  unknown model or unsupported operation
    │   └── JobUnknown             404  unknown or expired job
    ├── NeverReachedGpu                the endpoint did not take the request: quota is refunded
    │   ├── EndpointForbidden      502  the gateway is not allowed to call the endpoint
    │   └── EndpointUnavailable        another endpoint of the same model can help
    │       ├── EndpointMissing     503  the endpoint does not exist at the moment
    │       ├── EndpointBusy        503  throttled, overloaded, or still starting
    │       ├── EndpointAsleep      503  its lease, or its owner, has ended it
    │       ├── EndpointWaking      503  it is being created again
    │       └── EndpointUnreachable 503  no connection could be made
    ├── MayHaveReachedGpu              the response was lost: a run may be in progress
    │   ├── EndpointDown           503  the model's server does not respond
    │   ├── ConnectionCut          502  the connection broke before the response was complete
    │   └── EndpointTooSlow        504  no response before API Gateway would give up
    ├── GenerationFailed               the endpoint or the job ended without a usable picture
    │   ├── EndpointFailed         502  the model reported a failure of its own
    │   ├── PictureTooLarge        400  the picture does not fit the model's memory, or a response
    │   ├── BadPicture             502  the response is not a complete picture
    │   ├── JobFailed              502  image generation failed
    │   └── JobExpired             503  the picture was lost, or is no longer stored
    ├── BillFault                      money, not the machine: nothing was started
    │   ├── CapReached             402  the deployment's monthly cap is reached
    │   └── BudgetUsed             402  the key's dollars of this month are used up
    ├── TryLater                       the gateway itself cannot respond with a picture now
    │   ├── StillPainting          503  not ready after as many redirects as the client follows
    │   ├── TooManyWaiting         503  every wait slot is taken
    │   └── StoreUnavailable       503  S3 did not respond as expected
    ├── DeletionFault                  deleting a picture, never generating one
    │   ├── KeyRequired            403  links and open gateways do not delete
    │   └── PictureUnknown         404  the picture is not stored
    ├── BatchFault                     files and batches, never a single picture
    │   ├── BatchNeedsKey          403  links and open gateways have no files and no batches
    │   ├── BatchUnknown           404  unknown or expired file or batch
    │   ├── BatchOver              409  the batch cannot be cancelled any more
    │   └── IdempotencyKeyReused   422  an earlier request with this key was another one
    ├── TrainingFault                  fine-tuning, never a picture
    │   ├── TrainingUnavailable    404  the gateway was deployed without it
    │   ├── TrainingNeedsKey       403  links and open gateways do not train
    │   ├── TrainingUnknown        404  unknown or expired training job, data set or adapter
    │   ├── NameTaken              409  the adapter's name is in use
    │   ├── TrainingRunning        409  a job of this key is running
    │   ├── WrongState             409  the job cannot be cancelled or resumed, or has no result
    │   ├── TrainingQuotaUsed      429  as many jobs this month, or data sets, as a key can have
    │   ├── TrainingBusy           503  SageMaker starts no job now, or did not respond
    │   └── TrainingForbidden      502  the gateway is not allowed to start jobs
    └── InternalError              500  an unexpected error; the log has the details

A branch is a class because code catches it: quota is refunded after NeverReachedGpu, a queue is
tried after EndpointUnavailable, and a job's claim is kept after MayHaveReachedGpu.

Messages are written for the caller: they contain no ARN, no account id and no path of a container.
Of a library's text, they quote only why a backend refused the request.
"""

from __future__ import annotations

from typing import ClassVar


class GatewayError(Exception):
    """A failure that has a response of its own.

    Attributes:
        status: the HTTP status code.
        code: a stable name for programs.
        retry_after: seconds after which the same request may succeed; None if it never will.
        resend: whether a client library may send the request again by itself.
        field: the request's field that caused the error, if one did.
        headers: what else its response reports, such as what is left of a quota.
        remedy: what a program can do about it; people see it done for them on a page.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    retry_after: int | None = None
    resend: ClassVar[bool] = True
    remedy: ClassVar[str] = ""

    def __init__(self, message: str, field: str | None = None) -> None:
        self.message = message
        self.field = field
        self.headers: dict[str, str] = {}
        super().__init__(message)


# --- Branches -------------------------------------------------------------------------------------


class CallerFault(GatewayError):
    """The same request would fail again: the caller has to change it."""


class NeverReachedGpu(GatewayError):
    """The endpoint certainly did not take the request."""


class EndpointUnavailable(NeverReachedGpu):
    """This endpoint cannot take a request now; another one of the same model may."""


class MayHaveReachedGpu(GatewayError):
    """The endpoint's response was lost: a run may be in progress."""


class GenerationFailed(GatewayError):
    """The endpoint or the job ended without a usable picture."""


class BillFault(GatewayError):
    """Money, not the machine: nothing was started."""


class TryLater(GatewayError):
    """The gateway itself cannot respond with a picture now."""


class DeletionFault(GatewayError):
    """A picture cannot be deleted; requests for pictures never raise it."""


class BatchFault(GatewayError):
    """A request about files or batches cannot be met; requests for pictures never raise it."""


class TrainingFault(GatewayError):
    """A request about fine-tuning cannot be met; requests for pictures never raise it."""


# --- Leaves ---------------------------------------------------------------------------------------


class InvalidRequest(CallerFault):
    """A field is missing, unknown or outside its limits."""

    status = 400
    code = "invalid_request"


class PromptRefused(CallerFault):
    """The prompt filter refused the prompt."""

    status = 400
    code = "moderation_blocked"


class PictureRefused(CallerFault):
    """The model's own check refused the picture."""

    status = 400
    code = "moderation_blocked"


class Unauthorized(CallerFault):
    """A valid key, session or signed link is required; there was none, or it has expired."""

    status = 401
    code = "unauthorized"
    # Not in WWW-Authenticate alone: API Gateway renames that header.
    remedy = (
        "Send a key as `x-api-key: KEY`, as `Authorization: Bearer KEY` or as the password of HTTP"
        " Basic authentication; a browser signs in on the home page."
    )


class RateLimited(CallerFault):
    """Too many pictures were requested in the last minute, or the link's quota is used up.

    A client library that resends by itself would run into the same limit.
    """

    status = 429
    code = "rate_limited"
    retry_after = 60
    resend = False

    # The default is the window of the rate limit; a used-up link passes the rest of its life.
    def __init__(self, message: str, retry_after: int = 60) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UsageNeedsKey(CallerFault):
    """Usage is shown to API keys only; a link does not suffice, nor does an open gateway."""

    status = 403
    code = "usage_needs_key"


class BudgetUsed(BillFault):
    """The key's budget of this month is used up; the same request works again in the next month.

    Until then a client library that resends by itself would be refused again.
    """

    status = 402
    code = "budget_used"
    resend = False

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotOffered(CallerFault):
    """Unknown model or unsupported operation."""

    status = 404
    code = "not_offered"


class InternalError(GatewayError):
    """An unexpected error; the log has the details under the request's id."""

    status = 500
    code = "internal_error"


class EndpointFailed(GenerationFailed):
    """The model reported a failure of its own."""

    status = 502
    code = "endpoint_failed"
    retry_after = 10


class EndpointForbidden(NeverReachedGpu):
    """The gateway's role or credentials do not allow the call; needs operator action."""

    status = 502
    code = "endpoint_forbidden"
    retry_after = 300


class PictureTooLarge(GenerationFailed):
    """The picture does not fit the model's memory, or one response; a smaller one may.

    A client library that resends by itself would pay for the same failure again.
    """

    status = 400
    code = "picture_too_large"
    resend = False


class BadPicture(GenerationFailed):
    """The response is not a complete picture of the requested format."""

    status = 502
    code = "bad_picture"
    retry_after = 10


class EndpointDown(MayHaveReachedGpu):
    """The model's server does not respond; it may have ended during this very run."""

    status = 503
    code = "endpoint_down"
    retry_after = 15


class ConnectionCut(MayHaveReachedGpu):
    """The connection to the endpoint broke before the response was complete."""

    status = 502
    code = "connection_cut"
    retry_after = 5


class EndpointMissing(EndpointUnavailable):
    """The model's endpoint does not exist, or is being created or deleted."""

    status = 503
    code = "endpoint_missing"
    retry_after = 60


class EndpointBusy(EndpointUnavailable):
    """The endpoint is at capacity, or is still loading its model."""

    status = 503
    code = "endpoint_busy"
    retry_after = 15


class EndpointUnreachable(EndpointUnavailable):
    """No connection to SageMaker could be made; the request was never sent."""

    status = 503
    code = "endpoint_unreachable"
    retry_after = 15


class EndpointAsleep(EndpointUnavailable):
    """Nobody has used the model for the length of its lease, or its owner has stopped it.

    A client library that resends by itself would not wake it.
    """

    status = 503
    code = "endpoint_asleep"
    retry_after = 300
    resend = False


class EndpointWaking(EndpointUnavailable):
    """The model's endpoint is being created again, which takes minutes."""

    status = 503
    code = "endpoint_waking"
    resend = False

    def __init__(self, message: str, retry_after: int = 300) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CapReached(BillFault):
    """The deployment has spent its monthly cap; the owner can raise it.

    A client library that resends by itself would be refused again.
    """

    status = 402
    code = "monthly_cap_reached"
    resend = False

    def __init__(self, message: str, retry_after: int = 86_400) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class JobUnknown(CallerFault):
    """Unknown or expired job."""

    status = 404
    code = "job_unknown"


class JobFailed(GenerationFailed):
    """Image generation failed; requesting the same picture again retries it."""

    status = 502
    code = "job_failed"
    retry_after = 10


class JobExpired(GenerationFailed):
    """The picture was lost, or is no longer stored; requesting it again generates it again."""

    status = 503
    code = "job_expired"
    retry_after = 1


class StillPainting(TryLater):
    """The picture is not ready after as many redirects as the client follows; its URL stays valid.

    A client that resends by itself would only start to wait again.
    """

    status = 503
    code = "still_painting"
    retry_after = 30
    resend = False


class TooManyWaiting(TryLater):
    """As many requests wait for pictures as this gateway allows at once."""

    status = 503
    code = "too_many_waiting"
    retry_after = 15


class StoreUnavailable(TryLater):
    """S3, which stores pictures and the state of their jobs, did not respond as expected."""

    status = 503
    code = "store_unavailable"
    retry_after = 10


class EndpointTooSlow(MayHaveReachedGpu):
    """The picture was not ready before the gateway's own deadline.

    The model stops at its next step, and a client that resends by itself would start it anew.
    """

    status = 504
    code = "endpoint_too_slow"
    retry_after = 30
    resend = False


class KeyRequired(DeletionFault):
    """Deleting a picture requires an API key; a link does not suffice, nor does an open gateway."""

    status = 403
    code = "key_required"


class PictureUnknown(DeletionFault):
    """The picture to delete is not stored."""

    status = 404
    code = "picture_unknown"


class BatchNeedsKey(BatchFault):
    """Files and batches require an API key; a link does not suffice, nor does an open gateway."""

    status = 403
    code = "batch_needs_key"


class BatchUnknown(BatchFault):
    """Unknown or expired file or batch, or one of another key."""

    status = 404
    code = "batch_unknown"


class BatchOver(BatchFault):
    """The batch has ended, and cannot be cancelled."""

    status = 409
    code = "batch_over"
    resend = False


class IdempotencyKeyReused(BatchFault):
    """An earlier request with this `Idempotency-Key` had another body; use a new key."""

    # https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/, section 2.7
    status = 422
    code = "idempotency_key_reused"
    resend = False


class TrainingUnavailable(TrainingFault):
    """This gateway was deployed without fine-tuning."""

    status = 404
    code = "training_unavailable"


class TrainingNeedsKey(TrainingFault):
    """Fine-tuning requires an API key; a link does not suffice, nor does an open gateway."""

    status = 403
    code = "training_needs_key"


class TrainingUnknown(TrainingFault):
    """Unknown or expired training job, data set or adapter, or one of another key."""

    status = 404
    code = "training_unknown"


class NameTaken(TrainingFault):
    """The adapter's name is in use; choose another name, or delete the adapter."""

    status = 409
    code = "name_taken"
    resend = False


class TrainingRunning(TrainingFault):
    """A training job of this key is running; `Location` is its URL.

    Attributes:
        job: its id, if it is known.
    """

    status = 409
    code = "training_running"
    retry_after = 60
    resend = False
    job: str | None = None


class WrongState(TrainingFault):
    """The training job cannot be cancelled or resumed in its present state."""

    status = 409
    code = "wrong_state"
    resend = False


class TrainingQuotaUsed(TrainingFault):
    """As many training jobs were started this month, or data sets are stored, as a key can have."""

    status = 429
    code = "training_quota_used"
    retry_after = 86_400
    resend = False


class TrainingBusy(TrainingFault):
    """SageMaker cannot start or report a training job now; nothing was charged."""

    status = 503
    code = "training_busy"
    retry_after = 120
    resend = False


class TrainingForbidden(TrainingFault):
    """SageMaker refuses the gateway's request for a training job; needs operator action."""

    status = 502
    code = "training_forbidden"
    retry_after = 300
    resend = False


def every_error() -> tuple[type[GatewayError], ...]:
    """Return the leaves of the tree, in the order of their definition."""
    # Branches have no code of their own.
    return tuple(
        error
        for error in globals().values()
        if isinstance(error, type) and issubclass(error, GatewayError) and "code" in vars(error)
    )
