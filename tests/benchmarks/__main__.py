"""Measures, and writes docs/performance.md: `python -m tests.benchmarks --help`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from tests.benchmarks.lib.measuring import busy
from tests.benchmarks.lib.page import PAGE, render, summary
from tests.benchmarks.lib.report import RESULTS, Result, Section

# The page's sections in their order; each is a module of sections/.
BENCHMARKS = (
    "ancestor_recipe",
    "gateway",
    "copies",
    "home_page",
    "imports",
    "memory_size",
    "load",
    "memory_growth",
    "asynchronous",
    "gpu",
    "start_up",
    "png_encoding",
    "lora_switch",
    "weights_upload",
    "endpoint_life",
    "demo_quality",
)


def parser() -> argparse.ArgumentParser:
    """Return the command line's description."""
    top = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measures Easel against what a user would otherwise run.",
        epilog="Each benchmark can also be run alone, with knobs of its own: "
        "python -m tests.benchmarks.sections.NAME --help. Nothing is written to the page then.",
    )
    top.add_argument("names", nargs="*", metavar="NAME", help="what to measure; without, all")
    top.add_argument("--list", action="store_true", help="tell the names, and measure nothing")
    top.add_argument(
        "--quick", action="store_true", help="only show that they work; the page stays as it is"
    )
    top.add_argument("--render", action="store_true", help="only write the page again")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    asked = parser().parse_args(arguments)
    unknown = set(asked.names) - set(BENCHMARKS)
    if unknown:
        parser().error(f"no such benchmark: {', '.join(sorted(unknown))}; --list tells what is")
    if asked.list:
        for name in BENCHMARKS:
            print(f"{name:16} {summary(name)}")
        return 0
    for name in () if asked.render else asked.names or BENCHMARKS:
        _measure(name, quick=asked.quick)
    if not asked.quick:
        PAGE.write_text(render(BENCHMARKS), "utf-8")
    return 0


def _measure(name: str, *, quick: bool) -> None:
    print(f"{name}: measuring", file=sys.stderr, flush=True)
    load = busy()
    section: Section = importlib.import_module(f"tests.benchmarks.sections.{name}").section(quick)
    result = Result.of(section, load)
    print(result.markdown(), flush=True)
    if not quick:
        result.save(RESULTS / f"{name}.json")


if __name__ == "__main__":
    sys.exit(main())
