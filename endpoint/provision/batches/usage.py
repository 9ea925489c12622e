"""The records of a batch's pictures, next to those of the gateway: `python -m endpoint usage`."""

from __future__ import annotations

from endpoint.cli.context import Context
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
