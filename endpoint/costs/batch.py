"""What a batch takes and costs, computed from published durations of one picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from endpoint.catalogue import benchmarks, models, prices
from endpoint.core.generation import GenerationRequest
from endpoint.costs.autoscaling import COLD_START_SECONDS, IDLE_SECONDS


@dataclass(frozen=True)
class Estimate:
    """What a batch takes and costs; None for what nothing is known about.

    Attributes:
        seconds: until the last picture.
        usd: of all instances together.
        each: seconds of a picture on one instance.
        usd_per_hour: of all instances together.
    """

    seconds: float | None
    usd: float | None
    each: float | None
    usd_per_hour: float | None


def asynchronous(seconds: float | None, count: int, instance_type: str, instances: int) -> Estimate:
    """Return the estimate for an asynchronous endpoint that has scaled to zero.

    Args:
        seconds: of all pictures on one instance (`painting_seconds`).
        count: of the pictures.
        instance_type: such as ml.g6.xlarge.
        instances: the most that it may have.
    """
    # More instances than that would find nothing to do.
    instances = max(min(instances, count // 2), 1)
    if seconds is None:
        return _estimate(None, None, count, instance_type, instances)
    # Each starts once, and is idle for a while before it ends.
    busy = seconds + instances * (COLD_START_SECONDS + IDLE_SECONDS)
    took = COLD_START_SECONDS + seconds / instances
    return _estimate(took, busy, count, instance_type, instances, seconds)


def real_time(seconds: float | None, count: int, instance_type: str, instances: int) -> Estimate:
    """Return the estimate for an endpoint that runs already; as `asynchronous`."""
    if seconds is None:
        return _estimate(None, None, count, instance_type, instances)
    return _estimate(seconds / instances, seconds, count, instance_type, instances, seconds)


def spot(
    seconds: float | None, count: int, instance_type: str, start_seconds: float, share: float
) -> Estimate:
    """Return the estimate for a managed-spot job.

    Args:
        seconds: as for `asynchronous`.
        count: likewise.
        instance_type: likewise.
        start_seconds: until the first picture.
        share: of the price on demand.
    """
    took = None if seconds is None else start_seconds + seconds
    return _estimate(took, took, count, instance_type, 1, seconds, share)


def _estimate(
    took: float | None,
    busy: float | None,
    count: int,
    instance_type: str,
    instances: int,
    seconds: float | None = None,
    share: float = 1.0,
) -> Estimate:
    price = prices.dearest([instance_type])
    usd = None if busy is None or price is None else busy / 3_600 * price * share
    each = None if seconds is None else seconds / max(count, 1)
    return Estimate(took, usd, each, None if price is None else price * instances * share)


def painting_seconds(
    requests: Iterable[GenerationRequest], model: str, instance_type: str
) -> float | None:
    """Return the seconds of all pictures on one instance; None without a published duration.

    A picture takes as long as its steps and its pixels, compared with the published one's.
    """
    published = [one for one in benchmarks.published() if one.model == model and one.seconds]
    for one in published:
        if one.instance_type == instance_type and one.seconds:
            defaults = models.read()[model].defaults
            return sum(one.seconds * _share(request, defaults) for request in requests)
    return None


def _share(request: GenerationRequest, defaults: Mapping[str, Any]) -> float:
    share = 1.0
    for name in ("steps", "width", "height"):
        own, wanted = defaults.get(name), getattr(request, name)
        if own and wanted:
            share *= wanted / own
    return share
