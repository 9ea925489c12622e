"""The record of a proof: `proof.json` for programs, `proof.md` for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from endpoint.catalogue.beliefs import Belief, beliefs
from endpoint.core.clock import Clock
from endpoint.proof.meter import Meter

Verdict = Literal["held", "did not hold", "not checked"]


@dataclass
class Step:
    """One step of a proof.

    Attributes:
        seconds: how long it took.
        usd: the cost of the whole proof after it, at most.
        measured: what it found out.
        error: why it failed; empty if it did not.
    """

    name: str
    seconds: float = 0.0
    usd: float = 0.0
    measured: dict[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Finding:
    """What became of a belief.

    Attributes:
        id: the belief's.
        observed: what AWS did, or why it was not asked.
    """

    id: str
    verdict: Verdict
    observed: str


class Proof:
    """Everything that a proof did and found.

    Args:
        clock: measures the steps.
        meter: counts their cost.
        facts: the region, versions, options.
    """

    def __init__(self, clock: Clock, meter: Meter, facts: Mapping[str, Any]) -> None:
        self._clock = clock
        self._meter = meter
        self._facts = {"date": f"{clock.now():%Y-%m-%d}", **facts}
        self.steps: list[Step] = []
        self.findings: dict[str, Finding] = {}
        self.left: list[str] = []

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a step; what it puts into the yielded dictionary is recorded."""
        step = Step(name)
        self.steps.append(step)
        start = self._clock.monotonic()
        try:
            yield step.measured
        except BaseException as error:
            step.error = str(error) or type(error).__name__
            raise
        finally:
            step.seconds = round(self._clock.monotonic() - start, 1)
            step.usd = round(self._meter.usd(), 4)

    def find(self, belief: str, observed: str, *, held: bool) -> None:
        """Record what AWS did."""
        self.findings[belief] = Finding(belief, "held" if held else "did not hold", observed)

    def pass_over(self, belief: str, why: str) -> None:
        """Record that a belief could not be checked."""
        self.findings.setdefault(belief, Finding(belief, "not checked", why))

    @property
    def good(self) -> bool:
        """Whether every step succeeded, every checked belief held, and nothing is left."""
        failed = any(step.error for step in self.steps) or bool(self.left)
        return not failed and all(f.verdict != "did not hold" for f in self.findings.values())

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            **self._facts,
            "good": self.good,
            "usd_at_most": round(self._meter.usd(), 2),
            "steps": [asdict(step) for step in self.steps],
            "beliefs": [asdict(self._finding(each)) for each in beliefs()],
            "left": self.left,
        }

    def _finding(self, belief: Belief) -> Finding:
        why = "the proof ended before" if belief.check else belief.why_not
        return self.findings.get(belief.id) or Finding(belief.id, "not checked", why)

    def write(self, folder: Path, secrets: Mapping[str, str]) -> None:
        """Write both files.

        Args:
            folder: where to; made if it is missing.
            secrets: what to replace, by what: account number, names, keys.
        """
        folder.mkdir(parents=True, exist_ok=True)
        data = self.to_dict()
        texts = {"proof.json": json.dumps(data, indent=2) + "\n", "proof.md": _page(data)}
        for name, text in texts.items():
            for secret, replacement in secrets.items():
                text = text.replace(secret, replacement)
            (folder / name).write_text(text, "utf-8")


def _page(data: Mapping[str, Any]) -> str:
    known = {each.id: each.belief for each in beliefs()}
    verdict = "Everything held" if data["good"] else "Not everything held"
    lines = [
        "# Proof",
        "",
        f"{verdict}: {data['date']}, {data['region']}, at most {data['usd_at_most']:.2f} USD.",
        "",
        "| step | seconds | USD so far, at most | measured |",
        "|---|---|---|---|",
    ]
    for step in data["steps"]:
        measured = "; ".join(f"{name}: {value}" for name, value in step["measured"].items())
        told = f"**{step['error']}** {measured}".strip() if step["error"] else measured
        lines.append(f"| {step['name']} | {step['seconds']} | {step['usd']:.2f} | {_cell(told)} |")
    lines += ["", "| belief | verdict | observed |", "|---|---|---|"]
    for each in data["beliefs"]:
        row = (known[each["id"]], each["verdict"], each["observed"])
        lines.append(f"| {' | '.join(map(_cell, row))} |")
    left = ", ".join(data["left"]) or "nothing"
    return "\n".join([*lines, "", f"Left afterwards: {left}.", ""])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
