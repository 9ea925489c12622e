"""One structured log line for each request, and metrics in CloudWatch's embedded format.

AWS Lambda Powertools writes both; `python -m tests.benchmarks gateway` measures what it costs.
"""

from __future__ import annotations

import json
import time
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

NAMESPACE = "Easel"

# Chalice has a logger of its own under the app's name, easel, at another level.
_SERVICE = "easel-gateway"


def _as_line(entry: dict[str, Any]) -> str:
    """Return a log entry as one line of JSON.

    What UTF-8 cannot encode is escaped: the standard logging would print a line that it fails to
    write as it is, with whatever line breaks a client put into it.
    """
    text = json.dumps(entry, default=str, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode()


# Nothing is appended to the logger's own keys: `chalice local` serves requests in parallel.
# Without a location, which would be this file's in every line.
logger = Logger(service=_SERVICE, location=None, json_serializer=_as_line)


class LogRecord:
    """What the log line of one request will contain.

    The one thing about a request that changes while it is handled: every floor adds what it learns.
    It has the caller's words only where a setting asks for them.

    Args:
        request_id: Lambda's own, or API Gateway's.
        method: GET, HEAD and so on.
        route: the route's pattern.
        started: when the request arrived, by the monotonic clock, in seconds.
    """

    def __init__(
        self, request_id: str = "", method: str = "", route: str = "", started: float | None = None
    ) -> None:
        self._request = {"request_id": request_id, "method": method, "route": route}
        self._started = time.monotonic() if started is None else started
        self._fields: dict[str, Any] = {}

    @property
    def elapsed(self) -> float:
        """Seconds since the request arrived."""
        return time.monotonic() - self._started

    def add(self, **fields: Any) -> None:
        """Add fields to the line; a field that it has already is replaced."""
        self._fields.update(fields)

    def write(self, status: int, code: str | None) -> None:
        """Write the line, and count the request if a model was asked for a picture."""
        milliseconds = round(self.elapsed * 1_000, 1)
        line = {
            **self._request,
            "status": status,
            "code": code,
            "milliseconds": milliseconds,
            **self._fields,
        }
        extra = {name: value for name, value in line.items() if value is not None}
        logger.info("visit", extra=extra)
        # Only an invocation of a real-time endpoint sets it.
        if "endpoint_milliseconds" in self._fields:
            _count(self._fields["model"], status, milliseconds)
        # A response that ends the wait for a queued picture; one that tells to come back does not.
        elif "queue_milliseconds" in self._fields:
            model = self._fields["job"].rpartition("-")[0]
            _count(model, status, self._fields["queue_milliseconds"])

    def write_bad_setting(self, variable: str, problem: str) -> None:
        """Write which environment variable keeps the gateway from answering, and why."""
        extra = {name: self._request[name] for name in ("request_id", "route")}
        logger.error("bad setting", extra={**extra, "variable": variable, "problem": problem})

    def write_crash(self) -> None:
        """Write the exception that is being handled, with its traceback."""
        extra = {name: self._request[name] for name in ("request_id", "route")}
        logger.exception("crash", extra=extra)


def _count(model: str, status: int, milliseconds: float | None) -> None:
    """Emit `Pictures`, `Refusals` (4xx) or `Failures` (5xx), and the latency, by model.

    The latency of a queued picture is counted from the request that queued it, over all redirects;
    a picture that was ready before has none.
    """
    # Powertools' `Metrics` shares its state among all instances of a process, and `chalice local`
    # serves requests in parallel.
    metrics = EphemeralMetrics(namespace=NAMESPACE, service=_SERVICE)
    metrics.add_dimension(name="model", value=model)
    name = "Failures" if status >= 500 else "Refusals" if status >= 400 else "Pictures"
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=1)
    if milliseconds is not None:
        metrics.add_metric(name="Latency", unit=MetricUnit.Milliseconds, value=milliseconds)
    metrics.flush_metrics()
