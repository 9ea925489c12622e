"""One structured log line for each visit, and metrics in CloudWatch's embedded format.

AWS Lambda Powertools writes both; `tests/benchmarks/sections/gateway.py` says what it costs.
"""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from chalicelib.web.request import Visit

NAMESPACE = "Easel"

# Chalice has a logger of its own under the app's name, easel, at another level.
_SERVICE = "easel-gateway"
# Nothing is appended to the logger's own keys: `chalice local` serves several visits at once.
logger = Logger(service=_SERVICE, location=None)


def record(visit: Visit, status: int, code: str | None) -> None:
    """Log a visit, and count it if a model was asked for a picture.

    The visitor's words are in neither: `visit.notes` holds the prompt only when a setting says so.
    """
    milliseconds = round(visit.elapsed * 1_000, 1)
    logger.info("visit", extra=_details(visit, status, code, milliseconds))
    if "endpoint_milliseconds" in visit.notes:
        _count(visit, status, milliseconds)


def record_crash(visit: Visit) -> None:
    """Log the exception being handled, which nobody foresaw, with its traceback."""
    logger.exception("crash", extra={"request_id": visit.request_id, "route": visit.route})


def _details(visit: Visit, status: int, code: str | None, milliseconds: float) -> dict[str, Any]:
    details = {
        "request_id": visit.request_id,
        "method": visit.method,
        "route": visit.route,
        "status": status,
        "code": code,
        "milliseconds": milliseconds,
        **visit.notes,
    }
    return {name: value for name, value in details.items() if value is not None}


def _count(visit: Visit, status: int, milliseconds: float) -> None:
    """Emit `Pictures`, `Refusals` (4xx) or `Failures` (5xx), and the latency, by model."""
    metrics = EphemeralMetrics(namespace=NAMESPACE, service=_SERVICE)
    metrics.add_dimension(name="model", value=visit.notes["model"])
    name = "Failures" if status >= 500 else "Refusals" if status >= 400 else "Pictures"
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=1)
    metrics.add_metric(name="Latency", unit=MetricUnit.Milliseconds, value=milliseconds)
    metrics.flush_metrics()
