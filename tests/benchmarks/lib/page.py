"""docs/performance.md, written from the results of all benchmarks."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.lib.report import RESULTS, Result

PAGE = Path(__file__).parents[3] / "docs" / "performance.md"
SECTIONS = Path(__file__).parents[1] / "sections"
_HEAD = """\
# Performance

Written by `python -m tests.benchmarks`, from the figures in `tests/benchmarks/results/`. Do not
edit it: measure again, or change the benchmark.

    python -m tests.benchmarks --list            what there is
    python -m tests.benchmarks gateway load      measures these, and writes this page again
    python -m tests.benchmarks                   measures everything; takes more than an hour

How to read it: every figure is a median, with the quartiles in parentheses where it was measured
more than once. It stands beside a baseline, which was measured in the same run, taking turns: what
a user would otherwise run, built here from its published description. "Ratio" is Easel's figure
divided by the baseline's. "Load" says how many processes wanted the processor when the benchmark
began: where it is more than the cores, times are too long and only ratios mean something.

**Nothing here was measured on AWS.** The Lambda runs under AWS's own Runtime Interface Client, and
everything else in the emulator. What needs a GPU says so, and says "not measured" where there was
none.
"""


def render(names: Sequence[str], folder: Path = RESULTS) -> str:
    """Return the page, with the sections in the order of `names`."""
    parts = [_HEAD]
    for name in names:
        path = folder / f"{name}.json"
        parts.append(Result.read(path).markdown() + "\n" if path.exists() else _missing(name))
    return "\n".join(parts)


def _missing(name: str) -> str:
    return f"## {summary(name)}\n\nNot measured yet: `python -m tests.benchmarks {name}`.\n"


def summary(name: str) -> str:
    """Return the first line of a benchmark's docstring, without importing what it imports."""
    source = (SECTIONS / f"{name}.py").read_text("utf-8")
    return (ast.get_docstring(ast.parse(source)) or name).splitlines()[0].rstrip(".")
