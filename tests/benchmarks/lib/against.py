"""This checkout against another one, measured in turns in one run.

Of the other checkout only the entry points are used, `gateway/app.py` as `chalice package` zips it
and `model_package/code/inference.py`, so its modules can be laid out differently.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.benchmarks.lib.gateway.lambda_packages import unpack_gateway
from tests.benchmarks.lib.report import Aim, Figure, Row, Section
from tests.packages import ROOT

THIS, OTHER = "this checkout", "the other checkout"
# Medians of a checkout measured against itself differ by a few percent.
NO_WORSE = Aim("ratio", at_most=1.05)
TEXT = """\
This checkout (column "Easel") against another one, measured in turns in one run.
"""


def checkout(path: str) -> Path:
    """Return the folder of a checkout.

    Raises:
        argparse.ArgumentTypeError: if one of its entry points is missing.
    """
    folder = Path(path).resolve()
    for entry in ("gateway/app.py", "model_package/code/inference.py"):
        if not (folder / entry).is_file():
            raise argparse.ArgumentTypeError(f"{path} is not a checkout: {entry} is missing")
    return folder


def unpack_gateways(folder: Path, other: Path) -> dict[str, Path]:
    """Return the folders of both packaged gateways."""
    return {
        THIS: unpack_gateway(ROOT, folder / "this"),
        OTHER: unpack_gateway(other, folder / "other"),
    }


def row(what: str, unit: str, figures: Mapping[str, Figure]) -> Row:
    """Return the row of one figure that both checkouts have."""
    return Row(what, unit, figures[THIS], OTHER, figures[OTHER], NO_WORSE)


def section(
    title: str, rows: Sequence[Row], details: str = "", packages: tuple[str, ...] = ()
) -> Section:
    """Return the section of one benchmark that compares."""
    return Section(f"{title}, against another checkout", TEXT, tuple(rows), details, packages)
