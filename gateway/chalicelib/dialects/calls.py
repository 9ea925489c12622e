"""A request's use of the image service: what it hands in, and what its response reports of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from chalicelib.auth.quota import Payment
from chalicelib.aws.deadline import Deadline, sharing
from chalicelib.errors import GatewayError
from chalicelib.images.service import Call
from chalicelib.settings import Settings
from chalicelib.web.principal import AuthMethod
from chalicelib.web.request import Request

# For a browser navigation, a page that shows the elapsed time is better than an empty tab.
_NAVIGATION_SECONDS = 4.0


@contextmanager
def calling(settings: Settings, request: Request) -> Iterator[Call]:
    """Provide the call of a request; an error that leaves the context reports what was paid."""
    call = Call(
        payment=Payment(request.principal, request.address),
        log=request.log,
        trace=request.request_id,
        # The wait is limited by the client's preference and by the deadline, whichever is first.
        longest_wait=longest_wait(request),
        deadline=Deadline(request.arrived + settings.deadline_seconds),
        # Waking costs hours of a GPU: it takes a key, and a picture that is to be seen.
        wakes=request.principal.method is AuthMethod.KEY and not request.is_prefetch,
    )
    try:
        with sharing(call.deadline):
            yield call
    except GatewayError as error:
        # A caller needs to see its rate limit on errors as well.
        error.headers.update(report(call))
        raise


def longest_wait(request: Request) -> float:
    """Return the number of seconds that suits the client best; infinite for as long as possible."""
    if request.requested_wait is not None:
        return request.requested_wait
    return _NAVIGATION_SECONDS if request.is_navigation else math.inf


def report(call: Call) -> dict[str, str]:
    """Return the headers that report what the call paid and warned of."""
    if call.prompt_warning is None:
        return call.payment.headers
    return {"X-Prompt-Warning": call.prompt_warning, **call.payment.headers}
