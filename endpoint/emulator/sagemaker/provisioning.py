"""Looking for a variant's instances, among several types if the variant has instance pools.

"SageMaker AI tries to provision instances from the highest-priority pool. If [it] encounters an
insufficient capacity error for the current instance type, it automatically falls back to the next
pool in priority order. This continues until the required number of instances is provisioned, all
pools are exhausted, or the total provisioning timeout is reached."
https://docs.aws.amazon.com/sagemaker/latest/dg/realtime-endpoints-heterogeneous.html

How long a type is tried before the error comes is not documented, nor the timeout of a variant that
sets none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

# The shortest that VariantInstanceProvisionTimeoutInSeconds can be.
_UNSET_TIMEOUT = 300.0
# As SageMaker words it where it gives up.
_NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error."
    " Please retry using a different ML instance type or after some time."
)


@dataclass(frozen=True)
class Capacity:
    """The instance types without a free instance, and how long SageMaker tries each of them."""

    missing: Collection[str] = ()
    seconds_each: float = 900.0


@dataclass(frozen=True)
class Search:
    """The outcome of a search.

    Attributes:
        instance_type: the type of the instances; the first one if there are none.
        seconds: the time spent on types without capacity.
        failure: the FailureReason of an endpoint that gets no instances.
    """

    instance_type: str
    seconds: float = 0.0
    failure: str | None = None


def search(types: Sequence[str], capacity: Capacity, timeout: float | None) -> Search:
    """Return which of the types is provisioned.

    Args:
        types: in the order to try them; at least one.
        capacity: what AWS has.
        timeout: VariantInstanceProvisionTimeoutInSeconds, for all types together.
    """
    limit = _UNSET_TIMEOUT if timeout is None else timeout
    seconds = 0.0
    for name in types:
        if name not in capacity.missing:
            return Search(name, seconds)
        seconds += capacity.seconds_each
        if seconds >= limit:
            break
    return Search(types[0], min(seconds, limit), _NO_CAPACITY)
