"""The states of an endpoint over time, as DescribeEndpoint reports them.

    CreateEndpoint   Creating -> InService, or Failed
    UpdateEndpoint   Updating -> InService on the new fleet,
                     or Updating -> RollingBack -> InService on the old one
    DeleteEndpoint   Deleting -> gone

The API reference of DescribeEndpoint names RollingBack for changes of capacity only. That a failed
update passes through it, too, is assumed.

Time comes from a clock that is passed in. States are computed when they are read, so nothing runs
in the background.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from endpoint.emulator.sagemaker.provisioning import Capacity

CREATING, UPDATING, ROLLING_BACK = "Creating", "Updating", "RollingBack"
IN_SERVICE, FAILED, DELETING, GONE = "InService", "Failed", "Deleting", "gone"
# Until it ends, SageMaker accepts no other change.
_IN_PROGRESS = {CREATING, UPDATING, ROLLING_BACK, DELETING}
# The old fleet answers until the new one is ready, and while the new one is removed.
_SERVING = {IN_SERVICE, UPDATING, ROLLING_BACK}


@dataclass
class Transitions:
    """How long SageMaker works on an endpoint, and how that ends.

    May be changed between calls. What has begun ends as it was begun.

    Attributes:
        now: the emulated seconds.
        create_seconds, update_seconds, delete_seconds: the durations; a rollback takes as long as
            an update.
        fails_with: the FailureReason of every endpoint created from now on; None lets them succeed.
        update_rolls_back: whether updates end in a rollback.
        capacity: the instances that AWS has; looking for them comes before the other durations.
        moment: the time of day, for the date of an endpoint's creation.
    """

    now: Callable[[], float] = time.monotonic
    create_seconds: float = 0.0
    update_seconds: float = 0.0
    delete_seconds: float = 0.0
    fails_with: str | None = None
    update_rolls_back: bool = False
    capacity: Capacity = field(default_factory=Capacity)
    moment: Callable[[], datetime] = lambda: datetime.now(UTC)

    def change(self, values: Mapping[str, Any]) -> None:
        """Change the named attributes, as JSON has them; `capacity` has those of `Capacity`.

        Raises:
            TypeError: if there is no such attribute.
        """
        changed = dict(values)
        if "capacity" in changed:
            changed["capacity"] = Capacity(**changed["capacity"])
        vars(self).update(vars(replace(self, **changed)))


@dataclass(frozen=True)
class Fleet:
    """The instances of one endpoint configuration.

    Holds what the configuration and its models said, because both may be deleted while the
    endpoint runs.

    Attributes:
        config: the configuration's name.
        variants: as DescribeEndpoint shows them, with their instance counts, which scaling changes.
        instance_types: of each variant, by its name.
        async_config: AsyncInferenceConfig, None for a real-time endpoint.
        containers: of each variant's model, by the variant's name.
        pools: the types that each variant with instance pools can have, by the variant's name.
        search_seconds: how long SageMaker looks for the instances.
        failure: why the fleet never serves; None for one that does.
    """

    config: str
    variants: list[dict[str, Any]]
    instance_types: dict[str, str]
    async_config: dict[str, Any] | None
    containers: dict[str, dict[str, Any]]
    pools: dict[str, list[str]] = field(default_factory=dict)
    search_seconds: float = 0.0
    failure: str | None = None

    def described(self, *, starting: bool) -> list[dict[str, Any]]:
        """Return the variants as DescribeEndpoint shows them; `starting` without instances yet."""
        return [self._described(variant, starting=starting) for variant in self.variants]

    def _described(self, variant: dict[str, Any], *, starting: bool) -> dict[str, Any]:
        count = 0 if starting else variant.get("CurrentInstanceCount", 1)
        shown = variant | {"CurrentInstanceCount": count}
        if starting:
            shown["VariantStatus"] = [{"Status": "Creating"}]
        name = variant["VariantName"]
        if name in self.pools:
            shown["InstancePools"] = [
                {
                    "InstanceType": each,
                    "CurrentInstanceCount": count if each == self.instance_types[name] else 0,
                }
                for each in self.pools[name]
            ]
        return shown

    def instances(self, instance_type: str) -> int:
        """Return how many instances of a type the fleet has."""
        return sum(
            variant.get("CurrentInstanceCount", 1)
            for variant in self.variants
            if self.instance_types.get(variant["VariantName"]) == instance_type
        )


@dataclass
class Lifecycle:
    """One endpoint's fleets and states.

    Attributes:
        fleet: the one that answers.
        second: the one that an update is starting, if one runs. Both cost money: an update "deploys
            the EndpointConfig ... to a new fleet of instances ... and then deletes the old
            instances" (API reference of UpdateEndpoint).
        failure_reason: why the creation failed or the last update was rolled back.
    """

    transitions: Transitions
    fleet: Fleet
    second: Fleet | None = None
    failure_reason: str | None = None
    # Each state and the moment at which it ends.
    _states: list[tuple[str, float]] = field(default_factory=list)

    def create(self) -> None:
        """Begin with the endpoint's creation."""
        self.failure_reason = self.fleet.failure or self.transitions.fails_with
        self._go((CREATING, self.fleet.search_seconds + self.transitions.create_seconds))
        self._states.append((FAILED if self.failure_reason else IN_SERVICE, math.inf))

    def update(self, fleet: Fleet) -> None:
        """Begin to start a second fleet."""
        self.second = fleet
        seconds = self.transitions.update_seconds
        self.failure_reason = fleet.failure
        if self.transitions.update_rolls_back:
            self.failure_reason = "The new fleet did not pass its health checks."
        if self.failure_reason:
            self._go((UPDATING, fleet.search_seconds + seconds), (ROLLING_BACK, seconds))
        else:
            self._go((UPDATING, fleet.search_seconds + seconds))
        self._states.append((IN_SERVICE, math.inf))

    def delete(self) -> None:
        """Begin to delete the endpoint."""
        self._go((DELETING, self.transitions.delete_seconds))
        self._states.append((GONE, math.inf))

    def _go(self, *states: tuple[str, float]) -> None:
        moment, self._states = self.transitions.now(), []
        for status, seconds in states:
            moment += seconds
            self._states.append((status, moment))

    @property
    def status(self) -> str:
        """The state at this moment, after the end of whatever has ended."""
        now = self.transitions.now()
        # The last state has no end, so there always is one.
        status = next(status for status, until in self._states if now < until)
        if self.second is not None and status not in (UPDATING, ROLLING_BACK):
            # A reason with a second fleet means that this fleet never became healthy.
            self.fleet = self.fleet if self.failure_reason else self.second
            self.second = None
        return status

    @property
    def is_in_progress(self) -> bool:
        return self.status in _IN_PROGRESS

    @property
    def is_serving(self) -> bool:
        return self.status in _SERVING

    def instances(self, instance_type: str) -> int:
        """Return how many instances of a type both fleets have."""
        status = self.status
        # A failed creation has released its instances.
        fleets = [self.fleet, self.second] if status != FAILED else []
        return sum(fleet.instances(instance_type) for fleet in fleets if fleet is not None)
