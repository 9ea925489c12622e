"""Runs benchmarks and writes docs/performance.md: `python -m tests.benchmarks --help`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.lib.against import checkout
from tests.benchmarks.lib.measuring import load_average
from tests.benchmarks.lib.page import PAGE, render, section_path, summary
from tests.benchmarks.lib.report import RESULTS, Result

# The page's sections in their order; each is a module in a folder of sections/.
BENCHMARKS = (
    "ancestor_recipe",
    "gateway",
    "meter",
    "backends",
    "copies",
    "home_page",
    "imports",
    "memory_size",
    "load",
    "memory_growth",
    "asynchronous",
    "stored",
    "gpu",
    "batching",
    "toolkit",
    "start_up",
    "model_server",
    "png_encoding",
    "lora_switch",
    "training",
    "weights_upload",
    "serving_image",
    "endpoint_life",
    "batch",
    "demo_quality",
)


# Those that can be compared with another checkout.
COMPARED = ("gateway", "copies", "imports", "start_up")


def parser() -> argparse.ArgumentParser:
    """Return the command line's description."""
    top = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure Easel against the alternatives.",
        epilog="Each benchmark can also be run alone, with its own options: "
        "python -m tests.benchmarks.sections.PART.NAME --help. The page is not written then.",
    )
    top.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; default: all")
    top.add_argument("--list", action="store_true", help="list the names and exit")
    top.add_argument("--quick", action="store_true", help="run briefly, without writing the page")
    top.add_argument(
        "--against",
        type=checkout,
        metavar="CHECKOUT",
        help="measure in turns with another checkout of this repository, without writing the page; "
        f"for {', '.join(COMPARED)}",
    )
    top.add_argument("--render", action="store_true", help="write the page from the stored results")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parser().parse_args(arguments)
    choices = COMPARED if options.against else BENCHMARKS
    if unknown := set(options.names) - set(choices):
        parser().error(
            f"no such benchmark: {', '.join(sorted(unknown))}; use one of {', '.join(choices)}"
        )
    if options.list:
        for name in BENCHMARKS:
            print(f"{name:16} {summary(name)}")
        return 0
    keep = not (options.quick or options.against)
    for name in () if options.render else options.names or choices:
        result = _measure(name, quick=options.quick, other=options.against)
        if keep:
            result.save(RESULTS / f"{name}.json")
    if keep:
        PAGE.write_text(render(BENCHMARKS), "utf-8")
    return 0


def _measure(name: str, *, quick: bool, other: Path | None) -> Result:
    """Run one benchmark, against another checkout if one is given, and print its section."""
    print(f"{name}: measuring", file=sys.stderr, flush=True)
    load = load_average()
    part = section_path(name).parent.name
    module = importlib.import_module(f"tests.benchmarks.sections.{part}.{name}")
    section = module.compare(other, quick) if other else module.section(quick)
    result = Result.of(section, load)
    print(result.markdown(), flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
