"""The records of a batch's pictures, next to those of the gateway: `python -m endpoint usage`."""

from __future__ import annotations

from collections.abc import Collection

from endpoint.aws.bucket import Bucket
from endpoint.cli.context import Context
from endpoint.core.batches import places
from endpoint.core.usage_records import Kind, UsageRecord

_PLACE = "usage/"


class Usage:
    """Records what pictures have used, one small object each.

    Args:
        model: its name.
        kind: batch for a spot job, whose hours nobody else counts; else that of the endpoint.
        usd_per_hour: of one instance; None if the price is unknown.
    """

    def __init__(
        self, context: Context, model: str, kind: Kind, usd_per_hour: float | None
    ) -> None:
        self._bucket, self._clock = context.bucket, context.clock
        self._model, self._kind, self._usd_per_hour = model, kind, usd_per_hour or 0.0

    def record(self, seconds: float) -> None:
        """Record one picture; `seconds` is how long an instance took for it."""
        usd = seconds / 3_600 * self._usd_per_hour
        now = self._clock.now().timestamp()
        record = UsageRecord.now(now, self._model, self._kind, seconds, usd)
        self._bucket.put(f"{_PLACE}{record.to_key()}", b"")


class Recorded:
    """Which pictures of a batch are recorded, whatever folder has fetched them.

    Args:
        bucket: the deployment's.
        identifier: the batch's id.
    """

    def __init__(self, bucket: Bucket, identifier: str) -> None:
        self._bucket, self._prefix = bucket, places.recorded(identifier)
        self._numbers: set[int] | None = None

    def claim(self, numbers: Collection[int]) -> list[int]:
        """Return which of these pictures were not recorded yet, and note that they are.

        The note comes first: if the process ends in between, they are missing, and not there twice.
        """
        if self._numbers is None:
            keys = self._bucket.sizes(self._prefix)
            self._numbers = {number for key in keys for number in places.recorded_numbers(key)}
        new = sorted(set(numbers) - self._numbers)
        for name in places.recorded_files(new):
            self._bucket.put(f"{self._prefix}{name}", b"")
        self._numbers.update(new)
        return new
