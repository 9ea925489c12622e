"""The first picture: the only proof that an endpoint works.

The serving container passes its health check as soon as its server runs, whether or not the model
could be loaded. The first request can take minutes: SageMaker ends an invocation after 60 seconds,
while the container continues to load the model. A container that will never load it is recognised
by its log and its answers (`LoadWatch`), and costs nothing more if the operator agrees.
"""

from __future__ import annotations

import re

from endpoint.aws.logs import group_of
from endpoint.aws.models import instance_types
from endpoint.aws.runtime import LONGEST_RUN_SECONDS
from endpoint.catalogue import prices
from endpoint.cli.context import Context
from endpoint.core.problems import (
    AGAIN,
    Declined,
    NeverHealthy,
    NotReady,
    PictureFailed,
    TookTooLong,
)
from endpoint.provision.backends import Served
from endpoint.provision.serving import in_service

_PROMPT = "a warm-up"
_MOST_SECONDS = 1800
# Between two looks into the log, which a broken container fills within seconds.
_LOOK_SECONDS = 10
# The server's own words for a worker that ended; it then starts another one.
_DEATHS = ("Worker died", "Load model failed")
# A package whose libraries do not fit together, or that is missing. Others log such a line of an
# optional package, so it counts with a worker's death, or once it is repeated.
_IMPORTS = ("ImportError", "ModuleNotFoundError")
_LIBRARIES = ("undefined symbol", "cannot open shared object file")
# A worker that ran out of memory once can still load the model in its next attempt.
_MOST_DEATHS = 3


class LoadWatch:
    """Whether a container can load its model, by its log since the endpoint was created.

    Each event of the log counts once, however often it is read.
    """

    def __init__(self, context: Context, endpoint: str) -> None:
        self._context = context
        self._group = group_of(endpoint)
        self._since = int(_start_of_log(context, endpoint) * 1000)
        self._events: dict[str, str] = {}
        self._refusals: list[str] = []

    def refused(self, message: str) -> None:
        """Take note of an error that the endpoint returned."""
        self._refusals.append(message)

    def proof(self) -> str | None:
        """Look into the log; return the line that proves that the model cannot be loaded."""
        self._events |= self._context.logs.load_failure_events(self._group, self._since)
        lines = list(self._events.values())
        deaths = [line for line in lines + self._refusals if _has(line, _DEATHS)]
        imports = [line for line in lines if _has(line, _IMPORTS)]
        libraries = [line for line in imports if _has(line, _LIBRARIES)]
        if libraries and self._refusals:
            return libraries[-1]
        if imports and (deaths or len({_bare(line) for line in imports}) < len(imports)):
            return imports[-1]
        return deaths[-1] if len(deaths) >= _MOST_DEATHS else None


def _has(line: str, phrases: tuple[str, ...]) -> bool:
    return any(phrase in line for phrase in phrases)


def _bare(line: str) -> str:
    # Without times, process numbers and the like.
    return re.sub(r"\d+", "", line)


def _start_of_log(context: Context, endpoint: str) -> float:
    """Return when the lines begin that count, in seconds since the epoch.

    The log of an endpoint that was updated also has the lines of its previous version.
    """
    description = context.endpoints.find(endpoint) or {}
    created = description.get("CreationTime", context.started)
    start = created if created >= context.started else context.clock.now()
    return float(start.timestamp())


def warm_up(context: Context, endpoint: str, served: Served, *, asynchronous: bool) -> float | None:
    """Generate a picture; return the seconds that it took, or None in a dry run.

    Args:
        context: the deployment.
        endpoint: its name.
        served: how to ask it.
        asynchronous: whether its pictures are stored in S3.

    Raises:
        NeverHealthy: if the container cannot load its model (the endpoint is then deleted, if the
            operator agrees), returns errors, or no picture within half an hour.
    """
    if context.dry_run:
        return None
    start = context.clock.monotonic()
    watch = LoadWatch(context, endpoint)
    try:
        if asynchronous:
            _wait_for_result(context, endpoint, served, watch)
        else:
            _retry_until_loaded(context, endpoint, served, watch)
    except (PictureFailed, TookTooLong) as error:
        watch.refused(str(error))
        if proof := watch.proof():
            raise _cannot_load(context, endpoint, proof) from error
        raise _never_healthy(context, endpoint, str(error)) from error
    return round(context.clock.monotonic() - start, 1)


def _retry_until_loaded(context: Context, endpoint: str, served: Served, watch: LoadWatch) -> None:
    request = served.sample(_PROMPT)

    def poll() -> str | None:
        try:
            context.runtime.generate(
                endpoint, request, f"image/{request['format']}", served.backend
            )
        except NotReady as error:
            watch.refused(str(error))
            if watch.proof():
                raise PictureFailed(str(error)) from error
            return f"the model is being loaded ({str(error)[:80]})"
        return None

    context.waiting.until_done(poll, at_most=_MOST_SECONDS, every=_LOOK_SECONDS)


def _wait_for_result(context: Context, endpoint: str, served: Served, watch: LoadWatch) -> None:
    # At most 32 characters.
    key = f"warm-up-{int(context.clock.now().timestamp())}.png"
    job = context.runtime.begin_async(endpoint, served.sample(_PROMPT), key, backend=served.backend)
    looked = context.clock.monotonic()

    def poll() -> str | None:
        nonlocal looked
        if context.runtime.result_of(job) is not None:
            return None
        if context.clock.monotonic() - looked >= _LOOK_SECONDS:
            looked = context.clock.monotonic()
            if proof := watch.proof():
                raise PictureFailed(proof)
        return f"{endpoint}: waiting for the picture"

    context.waiting.until_done(poll, at_most=LONGEST_RUN_SECONDS, every=2)


def _cannot_load(context: Context, endpoint: str, proof: str) -> NeverHealthy:
    _show_log(context, endpoint)
    if _delete_if_wanted(context, endpoint):
        cost = "The endpoint is deleted and costs nothing more."
    else:
        cost = _STILL_COSTS
    return NeverHealthy(
        f"{endpoint} is in service, but its container cannot load the model: {proof}",
        f"{cost} Pass another serving image with --image (`python -m endpoint doctor` reports what"
        " is known about one), or check the model's files; a new attempt with the same ones would"
        " fail in the same way.",
    )


def _delete_if_wanted(context: Context, endpoint: str) -> bool:
    description = context.endpoints.find(endpoint) or {}
    config = context.models.find_config(description.get("EndpointConfigName", "")) or {}
    price = prices.in_words(prices.dearest(instance_types(config)))
    try:
        context.console.ask(
            f"{endpoint} cannot serve, and costs at most {price} until it is deleted."
            " Delete it now?"
        )
    except Declined:
        return False
    context.begin(f"delete {endpoint}")
    in_service.take_out(context, [endpoint])
    return True


_STILL_COSTS = (
    "The endpoint costs money until `python -m endpoint stop` or `python -m endpoint delete`"
    " deletes it."
)


def _show_log(context: Context, endpoint: str) -> None:
    for line in context.logs.load_failures(group_of(endpoint), 0):
        context.console.say(f"  log: {line}")


def _never_healthy(context: Context, endpoint: str, reason: str) -> NeverHealthy:
    _show_log(context, endpoint)
    return NeverHealthy(
        f"{endpoint} is in service but returns no picture: {reason}",
        f"Its log is shown above; the complete log is in CloudWatch under {group_of(endpoint)}."
        f" Check the model and --image. {_STILL_COSTS} {AGAIN}",
    )
