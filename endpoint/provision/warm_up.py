"""The first picture: the only proof that an endpoint works.

The serving container passes its health check as soon as its server runs, whether or not the model
could be loaded. The first request can take minutes: SageMaker ends an invocation after 60 seconds,
while the container continues to load the model.
"""

from __future__ import annotations

from typing import Any

from endpoint.aws.logs import group_of
from endpoint.cli.context import Context
from endpoint.core.problems import AGAIN, NeverHealthy, NotReady, PictureFailed, TookTooLong

REQUEST: dict[str, Any] = {"prompt": "a warm-up", "seed": 0, "format": "png"}
_MOST_SECONDS = 1800
# Polls with load failures in the log before giving up. A worker that ran out of memory once can
# still load the model in its next attempt.
_MOST_FAILURES = 3


def warm_up(context: Context, endpoint: str, *, asynchronous: bool) -> float | None:
    """Generate a picture; return the seconds that it took, or None in a dry run.

    Raises:
        NeverHealthy: if the container returns errors, or no picture within half an hour.
    """
    if context.dry_run:
        return None
    start = context.clock.monotonic()
    try:
        if asynchronous:
            # At most 32 characters.
            key = f"warm-up-{int(context.clock.now().timestamp())}.png"
            context.runtime.generate_async(endpoint, REQUEST, key)
        else:
            _retry_until_loaded(context, endpoint)
    except (PictureFailed, TookTooLong) as error:
        raise _never_healthy(context, endpoint, str(error)) from error
    return round(context.clock.monotonic() - start, 1)


def _retry_until_loaded(context: Context, endpoint: str) -> None:
    since = int(context.clock.now().timestamp() * 1000)
    failures = 0

    def poll() -> str | None:
        nonlocal failures
        try:
            context.runtime.generate(endpoint, REQUEST)
        except NotReady as error:
            failures += bool(context.logs.load_failures(group_of(endpoint), since))
            if failures >= _MOST_FAILURES:
                raise PictureFailed(str(error)) from error
            return f"the model is being loaded ({str(error)[:80]})"
        return None

    context.waiting.until_done(poll, at_most=_MOST_SECONDS, every=10)


def _never_healthy(context: Context, endpoint: str, reason: str) -> NeverHealthy:
    group = group_of(endpoint)
    for line in context.logs.load_failures(group, 0):
        context.console.say(f"  log: {line}")
    return NeverHealthy(
        f"{endpoint} is in service but returns no picture: {reason}",
        f"Its log is shown above; the complete log is in CloudWatch under {group}. Check the model"
        " and --image. The endpoint costs money until `python -m endpoint stop` or"
        f" `python -m endpoint delete` deletes it. {AGAIN}",
    )
