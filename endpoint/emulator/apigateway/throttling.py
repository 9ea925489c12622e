"""API Gateway's throttling: a token bucket for each method of a stage.

Source: "Throttle requests to your REST APIs for better throughput in API Gateway" in API Gateway's
developer guide: limits of a stage are "applied at the API method level". On AWS they are a goal,
"rather than guaranteed request ceilings"; here they are exact.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from endpoint.emulator.process.clock import Clock

# The settings of a stage by method, as GetStage returns them: "~1pets~1{id}/GET", or "*/*" for all.
MethodSettings = Mapping[str, Mapping[str, Any]]
_ALL = "*/*"


def from_template(settings: Iterable[Mapping[str, Any]]) -> MethodSettings:
    """Return the settings in a template's MethodSettings, by method."""
    return {
        f"{_key(entry['ResourcePath'])}/{entry['HttpMethod']}": {
            "throttlingRateLimit": entry["ThrottlingRateLimit"],
            "throttlingBurstLimit": entry["ThrottlingBurstLimit"],
        }
        for entry in settings
    }


def _key(path: str) -> str:
    return "*" if path == "/*" else path.replace("/", "~1")


class Throttling:
    """The buckets of a stage; without settings, nothing is limited."""

    def __init__(self, settings: MethodSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._lock = threading.Lock()
        # Tokens, and when there were that many.
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}

    def take(self, path: str, method: str) -> bool:
        """Take a token of a method's bucket; return False if there is none."""
        limits = self._settings.get(f"{_key(path)}/{method}") or self._settings.get(_ALL)
        if limits is None:
            return True
        burst, rate = float(limits["throttlingBurstLimit"]), float(limits["throttlingRateLimit"])
        with self._lock:
            now = self._clock.now()
            tokens, before = self._buckets.get((path, method), (burst, now))
            tokens = min(tokens + (now - before) * rate, burst)
            self._buckets[path, method] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1
