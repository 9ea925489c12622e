"""The progress of a job: `progress.jsonl`, its loss curve as an SVG file and as text.

A line is `{"step", "loss", "rate", "seconds", "cost"}` or `{"step", "validation"}`. The file is
mirrored while it is written, so that its last line can be incomplete.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from statistics import median
from typing import Any

Point = tuple[int, float]

_LARGEST = 1e9  # no loss is; also NaN is not smaller
_RECENT = 20  # steps whose median is the present speed
_BRAILLE = 0x2800
# The bit of each dot in a Braille character: two columns of four, from the top.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


@dataclass(frozen=True)
class Progress:
    """What a job has written so far.

    Attributes:
        loss: step and loss of each step, in order.
        validation: step and loss on the same pictures and noise each time.
        cost: USD so far, of training alone.
        seconds: of training so far.
        seconds_per_step: of the last steps; None before the first.
    """

    loss: tuple[Point, ...] = ()
    validation: tuple[Point, ...] = ()
    cost: float = 0.0
    seconds: float = 0.0
    seconds_per_step: float | None = None

    @property
    def step(self) -> int:
        """The last step; 0 before the first."""
        return self.loss[-1][0] if self.loss else 0

    def seconds_left(self, steps: int) -> float | None:
        """Return the seconds until the last step; None before the first one."""
        if self.seconds_per_step is None:
            return None
        return max(steps - self.step, 0) * self.seconds_per_step


def read(text: str) -> Progress:
    """Read the text of `progress.jsonl`; lines that are damaged are left out."""
    loss: dict[int, float] = {}
    validation: dict[int, float] = {}
    times: dict[int, float] = {}
    cost = 0.0
    for line in text.splitlines():
        values = _values(line)
        step = values.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            continue
        if _is_number(values.get("loss")):
            loss[step] = float(values["loss"])
            times[step] = float(values["seconds"]) if _is_number(values.get("seconds")) else 0.0
            cost = float(values["cost"]) if _is_number(values.get("cost")) else cost
        elif _is_number(values.get("validation")):
            validation[step] = float(values["validation"])
    recent = [seconds for _, seconds in sorted(times.items())[-_RECENT:]]
    return Progress(
        tuple(sorted(loss.items())),
        tuple(sorted(validation.items())),
        cost,
        sum(times.values()),
        median(recent) if recent else None,
    )


def thinned(points: tuple[Point, ...], most: int) -> list[Point]:
    """Return at most `most` points: the means of equally many neighbours; the last step stays."""
    if len(points) <= most:
        return list(points)
    kept = []
    for number in range(most):
        part = points[number * len(points) // most : (number + 1) * len(points) // most]
        kept.append((part[-1][0], sum(loss for _, loss in part) / len(part)))
    return kept


def smoothed(points: tuple[Point, ...]) -> list[Point]:
    """Return an exponential mean over about a twentieth of the steps, corrected at its start."""
    keep = 1 - 1 / max(len(points) / 20, 1)
    total, weight, means = 0.0, 0.0, []
    for step, loss in points:
        total, weight = total * keep + loss, weight * keep + 1
        means.append((step, total / weight))
    return means


def loss_svg(
    progress: Progress, *, steps: int, title: str, width: int = 640, height: int = 280
) -> str:
    """Return the loss curve as an SVG file: each step, the mean, and the validation loss.

    Args:
        progress: from `read`.
        steps: of the whole job, the right end of the axis.
        title: shown above; any text.
        width: in pixels.
        height: in pixels.
    """
    left, right, top, bottom = 52, 12, 30, 30
    low, high = _range(progress)

    def place(point: Point) -> str:
        x = left + point[0] / max(steps, 1) * (width - left - right)
        y = top + (high - point[1]) / (high - low) * (height - top - bottom)
        return f"{x:.1f},{y:.1f}"

    def line(points: list[Point], style: str) -> str:
        return f'<polyline fill="none" {style} points="{" ".join(map(place, points))}"/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(_printable(title))}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{left}" y="19" fill="#222222">{escape(_printable(title))}</text>',
    ]
    for number in range(5):
        value = low + (high - low) * number / 4
        y = top + (high - value) / (high - low) * (height - top - bottom)
        parts.append(
            f'<path d="M{left} {y:.1f}H{width - right}" stroke="#dddddd"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555555">'
            f"{value:.3g}</text>"
        )
    for number in range(5):
        step = round(steps * number / 4)
        x = left + number / 4 * (width - left - right)
        anchor = ("start", "middle", "middle", "middle", "end")[number]
        parts.append(
            f'<text x="{x:.1f}" y="{height - 10}" text-anchor="{anchor}" fill="#555555">'
            f"{step:,}</text>"
        )
    if progress.loss:
        parts.append(line(thinned(progress.loss, 500), 'stroke="#b9cbe4" stroke-width="1"'))
        mean = thinned(tuple(smoothed(progress.loss)), 500)
        parts.append(line(mean, 'stroke="#1f5fa8" stroke-width="2"'))
    if progress.validation:
        points = thinned(progress.validation, 500)
        parts.append(line(points, 'stroke="#c2571a" stroke-width="2" stroke-dasharray="5 3"'))
    if not progress.loss:
        parts.append(
            f'<text x="{width / 2}" y="{height / 2}" text-anchor="middle" fill="#555555">'
            "no steps yet</text>"
        )
    return "".join([*parts, "</svg>\n"])


def curve(progress: Progress, *, steps: int, width: int = 60, height: int = 8) -> str:
    """Return the mean loss as lines of text, drawn with Braille characters.

    Args:
        progress: from `read`.
        steps: of the whole job, the right end.
        width: of the drawing, in characters without the axis.
        height: likewise, in lines.
    """
    points = smoothed(progress.loss)
    if not points:
        return "no steps yet"
    low, high = _range(Progress(tuple(points)))
    cells = [[0] * width for _ in range(height)]
    for column in range(2 * width):
        value = _at(points, column / (2 * width - 1) * steps)
        if value is None:
            continue
        row = round((high - value) / (high - low) * (4 * height - 1))
        cells[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
    labels = {0: f"{high:.3g}", height - 1: f"{low:.3g}"}
    margin = max(map(len, labels.values()))
    lines = [
        f"{labels.get(number, ''):>{margin}} │{''.join(chr(_BRAILLE + dots) for dots in row)}"
        for number, row in enumerate(cells)
    ]
    end = f"{steps:,}"
    axis = f"{'':>{margin}} └{'─' * width}\n{'':>{margin}}  0{end:>{width - 1}}"
    return "\n".join([*lines, axis])


def _at(points: list[Point], step: float) -> float | None:
    """Return the value of the point nearest to a step; None after the last one."""
    first, last = points[0][0], points[-1][0]
    if step > last:
        return None
    # Steps follow one another, unless lines were damaged.
    index = min(max(round(step) - first, 0), len(points) - 1)
    return points[index][1]


def _range(progress: Progress) -> tuple[float, float]:
    """Return the bounds of the axis; single high losses of small noise levels do not set it."""
    means = [value for _, value in smoothed(progress.loss)]
    values = means + [value for _, value in progress.validation]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if progress.loss:
        ordered = sorted(value for _, value in progress.loss)
        low = min(low, ordered[len(ordered) // 20])
        high = max(high, ordered[-1 - len(ordered) // 20])
    if not high - low > 1e-9:
        low, high = low - 0.5, high + 0.5
    return low, high


def _values(line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
