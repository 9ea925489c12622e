import math

import pytest

from endpoint.catalogue import inferentia
from endpoint.costs import compiling

SDXL = inferentia.of_model("sdxl")


def test_an_estimate_is_its_minutes_and_the_start_at_the_hourly_price():
    made = compiling.estimate(SDXL, 0.922, spot=False, most_seconds=math.inf)

    assert made.seconds.expected == inferentia.start_seconds() + 60 * SDXL.compile_minutes[1]
    assert made.usd.expected == pytest.approx(made.seconds.expected / 3_600 * 0.922)
    assert made.usd.low < made.usd.expected < made.usd.most
    assert made.max_runtime == made.seconds.most
    assert made.max_wait is None


def test_a_spot_instance_is_cheaper_but_for_the_most_that_it_can_cost():
    spot, demand = (
        compiling.estimate(SDXL, 1.0, spot=spot, most_seconds=math.inf) for spot in (True, False)
    )

    assert spot.usd.expected < demand.usd.expected
    assert spot.usd.most == demand.usd.most
    assert spot.max_wait > spot.max_runtime


def test_a_job_ends_with_the_monthly_cap():
    made = compiling.estimate(SDXL, 1.0, spot=False, most_seconds=3_600.0)

    assert made.max_runtime == 3_600
    assert made.usd.most == pytest.approx(1.0)
    # What it takes does not depend on what may be spent.
    unlimited = compiling.estimate(SDXL, 1.0, spot=False, most_seconds=math.inf)
    assert made.seconds.expected == unlimited.seconds.expected > 3_600


def test_the_table_says_where_it_never_pays():
    rows = {tuple(row.split(" | ")[:2]): row for row in compiling.comparison_table().splitlines()}

    assert rows["| `sdxl`", "ml.inf2.8xlarge"].endswith("| never |")
    assert "-" in rows["| `sd`", "ml.inf2.xlarge"].split(" | ")[5]
