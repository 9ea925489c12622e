"""The tables of costs in the pages, made by `python -m tests.cost_tables`.

Run it after prices, published seconds, the catalogue or the scaling policies have changed; a test
says when.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from endpoint.catalogue import benchmarks
from endpoint.catalogue.benchmarks import Benchmark
from endpoint.costs import estimate
from tests.packages import ROOT

README, COSTS = ROOT / "README.md", ROOT / "docs" / "costs.md"


def tables() -> dict[tuple[Path, str], str]:
    """Return each table by its page and its marker's name."""
    growing = {
        (COSTS, f"growth-{benchmark.model}"): estimate.growth_table(benchmark)
        for benchmark in _first_of_each()
    }
    return {(README, "costs"): estimate.price_table(), **growing}


def _first_of_each() -> list[Benchmark]:
    """Return the first published benchmark of each model."""
    first: dict[str, Benchmark] = {}
    for benchmark in benchmarks.published():
        first.setdefault(benchmark.model, benchmark)
    return list(first.values())


def block(name: str) -> re.Pattern[str]:
    """Return what matches the text between a page's markers."""
    return re.compile(f"(<!-- {name}:.*?-->\n)(.*?)(<!-- /{name} -->)", re.DOTALL)


def main() -> int:
    """Write every table into its page."""
    for (page, name), table in tables().items():
        text, count = block(name).subn(
            lambda found, table=table: f"{found[1]}{table}{found[3]}", page.read_text("utf-8")
        )
        if count != 1:
            print(f"{page.name} has no place for {name}", file=sys.stderr)
            return 1
        page.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
