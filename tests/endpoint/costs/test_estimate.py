from __future__ import annotations

import pytest

from endpoint.catalogue import models, prices
from endpoint.catalogue.benchmarks import Benchmark
from endpoint.costs.estimate import DAY, estimate, growth_table, instances_for, price_table


def test_every_model_is_in_the_table_of_prices_measured_or_not():
    table = price_table()

    for name in models.read():
        assert f"| `{name}` |" in table
    assert "not measured" in table


def test_without_a_measurement_there_is_no_table():
    with pytest.raises(ValueError, match="sd-turbo"):
        growth_table(Benchmark("sd-turbo", "ml.g4dn.xlarge", None, ""))


@pytest.mark.parametrize(("rate", "count"), [(1 / DAY, 1), (0.08, 1), (0.081, 2), (1.0, 13)])
def test_no_instance_is_busy_for_more_than_four_fifths_of_its_time(rate, count):
    assert instances_for(rate, 10.0) == count


def test_a_picture_a_day_costs_a_month_in_real_time_and_next_to_nothing_otherwise():
    real_time, queued = estimate(1 / DAY, 3.6, 0.736)

    assert real_time.usd == pytest.approx(0.736 * prices.HOURS_PER_MONTH)
    assert real_time.median == real_time.slow == 3.6
    # Five minutes to start and about sixteen idle ones, thirty times a month.
    assert queued.usd == pytest.approx(30.4 * 21 / 60 * 0.736, rel=0.1)
    assert 7 * 60 < queued.median < queued.slow < 9 * 60


def test_pictures_that_expire_in_the_queue_are_reported():
    _, queued = estimate(1.0, 3.6, 0.736, count=1)

    assert queued.cells()[2].endswith("% lost")
