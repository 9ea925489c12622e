"""The result of a benchmark: rows of figures with their baselines, in a section of the page.

A benchmark is a module in a folder of `sections/` that `__main__.BENCHMARKS` lists. It has one
function,

    def section(quick: bool = False) -> Section: ...

that measures and returns; with `quick` it only shows that it works. `__main__` adds the date and
the machine, and writes `results/NAME.json` and docs/performance.md. Those of `__main__.COMPARED`
also have

    def compare(other: Path, quick: bool = False) -> Section: ...

that measures this checkout in turns with another one.

    Row("cold start", "ms", Figure.of(ours), "a bare Chalice app", Figure.of(theirs),
        aim=Aim("ratio", at_most=1.5))
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import fill
from typing import Any, Literal

from tests.benchmarks.lib.measuring import Samples, load_average, machine, table

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Figure:
    """A median, and the quartiles if it was measured more than once."""

    median: float
    quartiles: tuple[float, float] | None = None

    @classmethod
    def of(cls, samples: Samples) -> Figure:
        return cls(samples.median, samples.quartiles)


def figure_of(values: Sequence[float]) -> Figure:
    """Return the figure of numbers that were measured one by one."""
    return Figure.of(Samples(tuple(values)))


@dataclass(frozen=True)
class Aim:
    """Bounds for a row's value, its ratio to the baseline or its difference from it."""

    what: Literal["value", "ratio", "difference"]
    at_most: float | None = None
    at_least: float | None = None

    def met(self, reached: float) -> bool:
        low = self.at_least is None or reached >= self.at_least
        return low and (self.at_most is None or reached <= self.at_most)

    def described(self, unit: str) -> str:
        of = "" if self.what == "value" else f"{self.what} "
        unit = f" {unit}" if unit and self.what != "ratio" else ""
        bounds = (("at most", self.at_most), ("at least", self.at_least))
        return of + " and ".join(
            f"{word} {number(bound)}{unit}" for word, bound in bounds if bound is not None
        )


@dataclass(frozen=True)
class Row:
    """One figure of Easel's with its baseline.

    Attributes:
        what: the measured quantity.
        unit: of both values.
        value: Easel's; None if it could not be measured, such as without a GPU.
        baseline: the name of the alternative, "" for none.
        baseline_value: its figure, measured in the same run.
        aim: the bounds to meet.
        note: an explanation, or the source of a published value.
    """

    what: str
    unit: str
    value: Figure | None
    baseline: str = ""
    baseline_value: Figure | None = None
    aim: Aim | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Easel's median over the baseline's."""
        if self.value is None or self.baseline_value is None or not self.baseline_value.median:
            return None
        return self.value.median / self.baseline_value.median

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None without an aim or without a figure."""
        if self.aim is None or self.value is None:
            return None
        reached = {
            "value": self.value.median,
            "ratio": self.ratio,
            "difference": self.value.median - self.baseline_value.median
            if self.baseline_value
            else None,
        }[self.aim.what]
        return None if reached is None else self.aim.met(reached)

    def cells(self) -> list[str]:
        """The row of a table, under `HEAD`."""
        baseline = f"{self.baseline}: " if self.baseline and self.baseline_value else self.baseline
        if self.baseline_value:
            baseline += _formatted(self.baseline_value, self.unit)
        ratio = "" if self.ratio is None else number(self.ratio)
        value = "not measured" if self.value is None else _formatted(self.value, self.unit)
        return [self.what, value, baseline, ratio, "; ".join(filter(None, self._remarks()))]

    def _remarks(self) -> list[str]:
        if self.aim is None:
            return [self.note]
        outcome = {True: "met", False: "**missed**", None: "open"}[self.met]
        return [f"aim: {self.aim.described(self.unit)}, {outcome}", self.note]


def _wrapped(text: str) -> str:
    """Wrap paragraphs like the other pages of docs/, except tables."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(
        each
        if each.startswith("|")
        else fill(each, 100, break_long_words=False, break_on_hyphens=False)
        for each in paragraphs
    )


HEAD = ("figure", "Easel", "baseline", "ratio", "aim and note")


@dataclass(frozen=True)
class Section:
    """The result of one benchmark.

    Attributes:
        title: its heading.
        text: what was measured against which baseline, in Markdown, before the rows.
        rows: the figures.
        details: more tables or conclusions, in Markdown, after the rows.
        packages: distributions whose versions are reported.
        hardware: such as a GPU's name; "" for this machine's processor.
    """

    title: str
    text: str
    rows: tuple[Row, ...]
    details: str = ""
    packages: tuple[str, ...] = ()
    hardware: str = ""

    def markdown(self) -> str:
        """Return text, table and details."""
        figures = table(HEAD, [row.cells() for row in self.rows]) if self.rows else ""
        parts = (_wrapped(self.text), figures, _wrapped(self.details))
        return "\n\n".join(part for part in parts if part)


@dataclass(frozen=True)
class Result:
    """A section and the conditions of its measurement: the content of `results/NAME.json`."""

    section: Section
    date: str
    hardware: str
    load: float  # the load average when the benchmark started
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, section: Section, load: float) -> Result:
        """Add the date, the machine and the versions to a section measured now."""
        hardware = section.hardware or machine()
        today = datetime.now(UTC).date().isoformat()
        return cls(section, today, hardware, load, versions(section.packages))

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read a file that `save` wrote."""
        data = json.loads(path.read_text("utf-8"))
        section = data.pop("section")
        rows = tuple(_row(row) for row in section.pop("rows"))
        packages = tuple(section.pop("packages"))
        return cls(section=Section(**section, rows=rows, packages=packages), **data)

    def save(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", "utf-8")

    def markdown(self) -> str:
        """Return the section with its heading and the conditions of the measurement."""
        made = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        conditions = f"{self.date}, {self.hardware}, load {self.load:g} at the start; {made}."
        return (
            f"## {self.section.title}\n\n{self.section.markdown()}\n\n{_wrapped(f'*{conditions}*')}"
        )


def print_section(section: Callable[[], Section]) -> None:
    """Run a benchmark and print its section, without writing a file."""
    load = load_average()
    print(Result.of(section(), load).markdown())


def _row(data: dict[str, Any]) -> Row:
    figures = {name: _figure(data.pop(name)) for name in ("value", "baseline_value")}
    aim = data.pop("aim")
    return Row(**data, **figures, aim=Aim(**aim) if aim else None)


def _figure(data: dict[str, Any] | None) -> Figure | None:
    if data is None:
        return None
    quartiles = data["quartiles"]
    return Figure(data["median"], (quartiles[0], quartiles[1]) if quartiles else None)


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return Python's and the installed packages' versions."""
    installed = {"Python": platform.python_version()}
    for package in packages:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def number(value: float) -> str:
    """Return a number with three significant digits, or all digits of a whole number."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def _formatted(figure: Figure, unit: str) -> str:
    text = f"{number(figure.median)} {unit}".strip()
    if figure.quartiles is None:
        return text
    low, high = figure.quartiles
    return f"{text} ({number(low)} to {number(high)})"
