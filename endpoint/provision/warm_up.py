"""The first picture: the only proof that an endpoint works.

The serving container answers its health check as soon as its server runs; whether the model was
loaded shows only when it is asked for a picture. The first one may take minutes: SageMaker cuts an
invocation off after 60 seconds, while the container goes on loading.
"""

from __future__ import annotations

from typing import Any

from endpoint.aws.logs import group_of
from endpoint.aws.runtime import NotReady, PictureFailed
from endpoint.cli.context import Context
from endpoint.core.problems import AGAIN, NeverHealthy, TookTooLong

REQUEST: dict[str, Any] = {"prompt": "a warm-up", "seed": 0, "format": "png"}
_MOST_SECONDS = 1800
_BAD_SIGNS = 3  # looks at a log that tells of a model that does not load, before giving up


def warm_up(context: Context, endpoint: str, *, asynchronous: bool) -> float | None:
    """Have a picture painted; return how many seconds it took, or None in a dry run.

    Raises:
        NeverHealthy: if the container answers with errors, or with nothing for half an hour.
    """
    if context.dry_run:
        return None
    start = context.clock.monotonic()
    try:
        if asynchronous:
            context.runtime.generate_async(
                endpoint, REQUEST, f"warm-up-{int(context.clock.now().timestamp())}.png"
            )
        else:
            _ask_until_it_answers(context, endpoint)
    except (PictureFailed, TookTooLong) as error:
        raise _never_healthy(context, endpoint, str(error)) from error
    return round(context.clock.monotonic() - start, 1)


def _ask_until_it_answers(context: Context, endpoint: str) -> None:
    since = int(context.clock.now().timestamp() * 1000)
    bad_signs = 0

    def look() -> str | None:
        nonlocal bad_signs
        try:
            context.runtime.generate(endpoint, REQUEST)
        except NotReady as error:
            bad_signs += bool(context.logs.trouble(group_of(endpoint), since))
            if bad_signs >= _BAD_SIGNS:
                raise PictureFailed(str(error)) from error
            return f"the model is being loaded ({str(error)[:80]})"
        return None

    context.waiting.until_done(look, at_most=_MOST_SECONDS, every=10)


def _never_healthy(context: Context, endpoint: str, said: str) -> NeverHealthy:
    for line in context.logs.trouble(group_of(endpoint), 0):
        context.console.say(f"  log: {line}")
    return NeverHealthy(
        f"{endpoint} is in service but serves no picture: {said}",
        "Its log is shown above, and whole in CloudWatch under "
        f"{group_of(endpoint)}. Check the model and --image. It costs money while it is there:"
        f" `stop` or `delete_endpoint` ends that. {AGAIN}",
    )
