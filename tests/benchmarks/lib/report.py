"""What a benchmark hands over: figures, each beside its baseline, and the section they stand in.

A benchmark is a module of `sections/` that `__main__.BENCHMARKS` lists. It has one function,

    def section(quick: bool = False) -> Section: ...

that measures and returns; with `quick` it measures just enough to show that it works. Everything
else is done for it: the date, the machine, `results/NAME.json`, and docs/performance.md.

    Row("cold start", "ms", Figure.of(ours), "a bare Chalice app", Figure.of(theirs),
        aim=Aim("ratio", at_most=1.5))
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from tests.benchmarks.lib.measuring import Samples, busy, machine, table

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Figure:
    """A median, and the quartiles where it was measured more than once."""

    median: float
    quartiles: tuple[float, float] | None = None

    @classmethod
    def of(cls, samples: Samples) -> Figure:
        return cls(samples.median, samples.quartiles)


@dataclass(frozen=True)
class Aim:
    """What a row is meant to reach: its own value, its ratio or its difference to the baseline."""

    what: Literal["value", "ratio", "difference"]
    at_most: float | None = None
    at_least: float | None = None

    def met(self, reached: float) -> bool:
        low = self.at_least is None or reached >= self.at_least
        return low and (self.at_most is None or reached <= self.at_most)

    def in_words(self, unit: str) -> str:
        of = "" if self.what == "value" else f"{self.what} "
        unit = f" {unit}" if unit and self.what != "ratio" else ""
        bounds = (("at most", self.at_most), ("at least", self.at_least))
        return of + " and ".join(
            f"{word} {number(bound)}{unit}" for word, bound in bounds if bound is not None
        )


@dataclass(frozen=True)
class Row:
    """One figure of Easel's beside what it is compared with.

    Attributes:
        what: what was measured.
        unit: of both values.
        value: Easel's; None where there was nothing to measure it on, such as a GPU.
        baseline: the name of what a user would otherwise run, "" for none.
        baseline_value: its figure, measured in the same run.
        aim: what the figure should reach.
        note: a reason, or a source where the value is published by others.
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
        """Whether the aim was reached; None without an aim, or without a figure."""
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
            baseline += _said(self.baseline_value, self.unit)
        ratio = "" if self.ratio is None else number(self.ratio)
        value = "not measured" if self.value is None else _said(self.value, self.unit)
        return [self.what, value, baseline, ratio, "; ".join(filter(None, self._remarks()))]

    def _remarks(self) -> list[str]:
        if self.aim is None:
            return [self.note]
        outcome = {True: "met", False: "**missed**", None: "open"}[self.met]
        return [f"aim: {self.aim.in_words(self.unit)}, {outcome}", self.note]


HEAD = ("figure", "Easel", "baseline", "ratio", "aim and note")


@dataclass(frozen=True)
class Section:
    """What one benchmark found.

    Attributes:
        title: its heading.
        text: what was done and against what, in Markdown, before the rows.
        rows: the figures.
        details: more tables or what follows from the figures, in Markdown, after the rows.
        packages: distributions whose versions matter.
        hardware: where that is not this machine's processor, such as a GPU's name.
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
        return "\n\n".join(part.strip() for part in (self.text, figures, self.details) if part)


@dataclass(frozen=True)
class Result:
    """A section as it was measured once: what `results/NAME.json` holds."""

    section: Section
    date: str
    hardware: str
    load: float  # processes that wanted a core when the benchmark began
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, section: Section, load: float) -> Result:
        """Put the date, the machine and the versions beside what was found just now."""
        hardware = section.hardware or machine()
        today = datetime.now(UTC).date().isoformat()
        return cls(section, today, hardware, load, versions(section.packages))

    @classmethod
    def read(cls, path: Path) -> Result:
        """Return what `save` wrote."""
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
        """Return the section with its heading, and under which conditions it was measured."""
        made = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        conditions = f"{self.date}, {self.hardware}, load {self.load:g} at the start; {made}."
        return f"## {self.section.title}\n\n{self.section.markdown()}\n\n*{conditions}*"


def run_alone(section: Callable[[], Section]) -> None:
    """Measure and print; what a benchmark's own command line does."""
    load = busy()
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
    """Return Python's and the packages' versions; those that are not installed are left out."""
    found = {"Python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def number(value: float) -> str:
    """Return a number with as many digits as it deserves: three, or all of a whole number's."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def _said(figure: Figure, unit: str) -> str:
    said = f"{number(figure.median)} {unit}".strip()
    if figure.quartiles is None:
        return said
    low, high = figure.quartiles
    return f"{said} ({number(low)} to {number(high)})"
