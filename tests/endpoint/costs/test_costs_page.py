"""The page on costs, held to the data files."""

from __future__ import annotations

import re
from pathlib import Path

from endpoint.catalogue import models, prices

PAGE = (Path(__file__).parents[3] / "docs" / "costs.md").read_text("utf-8")


def rows(name):
    (table,) = re.findall(f"<!-- {name}:.*?-->\n(.*?)<!-- /{name} -->", PAGE, re.DOTALL)
    return [[cell.strip() for cell in line.strip("|").split("|")]
            for line in table.splitlines()[2:]]  # fmt: skip


def test_every_instance_type_is_listed_with_its_price():
    listed = [
        [
            kind.name,
            f"{kind.gpu}, {kind.gpu_gib} GB",
            f"{kind.ram_gib} GB",
            f"{kind.usd_per_hour:.3f}",
            f"{kind.usd_per_hour * 24:.2f}",
            f"{kind.usd_per_hour * prices.HOURS_PER_MONTH:.0f}",
        ]
        for kind in prices.instance_types().values()
    ]
    assert rows("types") == listed


def test_every_model_is_listed_with_its_licence_and_price():
    listed = [
        [
            f"`{model.name}`",
            model.title,
            model.licence,
            ", ".join(model.instance_types),
            f"{prices.instance_types()[model.instance_types[0]].usd_per_hour:.3f}",
        ]
        for model in models.read().values()
    ]
    assert [row[:5] for row in rows("models")] == listed


def test_the_price_of_storage_is_the_data_files():
    assert f"{prices.storage_per_month(1024**3):.3f} USD per GB" in PAGE
