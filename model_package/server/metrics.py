"""Counters of the server: in Prometheus' text format, and as CloudWatch's embedded metrics.

SageMaker reads /metrics of a container every minute by itself. The embedded metrics are a line of
JSON in the log: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable, Sequence

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 300, 1800)
_STEP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


class Counter:
    """Counts by the value of one label."""

    def __init__(self, name: str, text: str, label: str) -> None:
        self._name, self._text, self._label = name, text, label
        self._lock = threading.Lock()
        self.counts: dict[str, int] = {}

    def add(self, value: str) -> None:
        with self._lock:
            self.counts[value] = self.counts.get(value, 0) + 1

    def lines(self) -> Iterable[str]:
        yield from _head(self._name, self._text, "counter")
        for value, count in sorted(self.counts.items()):
            yield f'{self._name}{{{self._label}="{value}"}} {count}'


class Histogram:
    """Counts values by upper bounds."""

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._name, self._text, self._bounds = name, text, bounds
        self._lock = threading.Lock()
        self._counts = [0] * (len(bounds) + 1)
        self.sum, self.count = 0.0, 0

    def observe(self, value: float) -> None:
        with self._lock:
            index = sum(value > bound for bound in self._bounds)
            self._counts[index] += 1
            self.sum, self.count = self.sum + value, self.count + 1

    def lines(self) -> Iterable[str]:
        yield from _head(self._name, self._text, "histogram")
        total = 0
        for bound, count in zip([*self._bounds, "+Inf"], self._counts, strict=True):
            total += count
            yield f'{self._name}_bucket{{le="{bound}"}} {total}'
        yield f"{self._name}_sum {self.sum:.6f}"
        yield f"{self._name}_count {self.count}"


class Metrics:
    """All that is counted.

    Attributes:
        responses: by status.
        dropped: requests that ended without a picture being generated to its end, by reason.
        waited: seconds in the queue.
        pictures: seconds from arrival to response.
        steps: seconds of the engine's steps.
        together: how many requests were generated together.
    """

    def __init__(self) -> None:
        self.responses = Counter("easel_responses_total", "Responses by status.", "status")
        self.dropped = Counter("easel_dropped_total", "Requests dropped, by reason.", "reason")
        self.waited = Histogram("easel_waited_seconds", "Time in the queue.", _SECONDS)
        self.pictures = Histogram("easel_picture_seconds", "From request to picture.", _SECONDS)
        self.steps = Histogram("easel_step_seconds", "Steps of the engine.", _STEP_SECONDS)
        self.together = Histogram("easel_batch_size", "Generated together.", (1, 2, 4, 8))
        self._before: dict[str, float] = {}

    def prometheus(self, gauges: dict[str, tuple[str, float]]) -> str:
        """Return the text of /metrics.

        Args:
            gauges: by name, the description and the present value.
        """
        lines: list[str] = []
        for name, (text, value) in gauges.items():
            lines += [*_head(f"easel_{name}", text, "gauge"), f"easel_{name} {value:g}"]
        for metric in (
            self.responses,
            self.dropped,
            self.waited,
            self.pictures,
            self.steps,
            self.together,
        ):
            lines += metric.lines()
        return "\n".join(lines) + "\n"

    def embedded(self, queue_seconds: float, endpoint: str | None, milliseconds: int) -> str:
        """Return a line with what happened since the last one, for CloudWatch."""
        totals = {
            "Pictures": float(self.pictures.count),
            "PictureSeconds": self.pictures.sum,
            "Refused": self._status(503),
            "Failed": self._status(500),
            "OutOfMemory": self._status(507),
        }
        values = {name: total - self._before.get(name, 0) for name, total in totals.items()}
        self._before = totals
        if values["Pictures"]:
            values["PictureSeconds"] = round(values["PictureSeconds"] / values["Pictures"], 3)
        else:
            del values["PictureSeconds"]  # an average of nothing would count as 0
        values["QueueSeconds"] = round(queue_seconds, 3)
        units = {name: "Seconds" if name.endswith("Seconds") else "Count" for name in values}
        described = {
            "Namespace": "Easel",
            "Dimensions": [["Endpoint"] if endpoint else []],
            "Metrics": [{"Name": name, "Unit": unit} for name, unit in units.items()],
        }
        line = {
            "_aws": {"Timestamp": milliseconds, "CloudWatchMetrics": [described]},
            **({"Endpoint": endpoint} if endpoint else {}),
            **values,
        }
        return json.dumps(line)

    def _status(self, status: int) -> float:
        return float(self.responses.counts.get(str(status), 0))


def gpu_memory() -> dict[str, tuple[str, float]]:
    """Return the gauge of the GPU's memory; empty without one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    peak = float(torch.cuda.max_memory_allocated())
    return {"gpu_memory_peak_bytes": ("Most memory of the GPU in use so far.", peak)}


def _head(name: str, text: str, kind: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
