"""What pictures would cost, as a person asks for it."""

from __future__ import annotations

import pytest

from endpoint.catalogue import benchmarks, prices
from endpoint.catalogue import models as catalogue
from endpoint.catalogue.benchmarks import Benchmark
from endpoint.commands import estimate
from endpoint.costs import estimate as costs

DAY = 86_400.0
SD = Benchmark("sd", "ml.g4dn.xlarge", 3.6, "a test")


def test_what_is_published_names_a_model_a_type_and_where_it_stands() -> None:
    for each in benchmarks.published():
        assert each.instance_type in catalogue.read()[each.model].instance_types
        assert each.seconds
        assert "https://" in each.source


def test_every_model_is_in_the_table_of_prices_measured_or_not() -> None:
    table = costs.price_table()

    for name in catalogue.read():
        assert f"| `{name}` |" in table
    assert "not measured" in table


def test_a_thousand_pictures_cost_their_seconds_of_the_instance_and_the_gateway() -> None:
    gpu = 1_000 * 3.6 / 3_600 * 0.736
    lambdas = 1_000 * 3.6 * 0.0000166667
    requests = 1_000 * (0.2 + 3.5) / 1e6
    traffic = 1.5 * 0.09
    s3 = 3 * 0.005 + 2 * 0.0004

    assert SD.per_thousand == pytest.approx(gpu + lambdas + requests + traffic + s3)


def test_nobody_s_seconds_make_nobody_s_price() -> None:
    unknown = Benchmark("sd-turbo", "ml.g4dn.xlarge", None, "")

    assert unknown.per_thousand is None
    with pytest.raises(ValueError, match="sd-turbo"):
        costs.growth_table(unknown)


@pytest.mark.parametrize(("rate", "count"), [(1 / DAY, 1), (0.08, 1), (0.081, 2), (1.0, 13)])
def test_no_instance_has_more_than_four_fifths_of_its_time_taken(rate: float, count: int) -> None:
    assert costs.instances_for(rate, 10.0) == count


def test_a_picture_a_day_costs_a_month_in_real_time_and_next_to_nothing_otherwise() -> None:
    real_time, queued = costs.estimate(1 / DAY, 3.6, 0.736)

    assert real_time.usd == pytest.approx(0.736 * prices.HOURS_PER_MONTH)
    assert real_time.median == real_time.slow == 3.6
    # Five minutes to start and about sixteen idle ones, thirty times a month.
    assert queued.usd == pytest.approx(30.4 * 21 / 60 * 0.736, rel=0.1)
    assert 7 * 60 < queued.median < queued.slow < 9 * 60


def test_pictures_that_the_queue_gives_up_are_told() -> None:
    _, queued = costs.estimate(1.0, 3.6, 0.736, count=1)

    assert queued.cells()[2].endswith("% lost")


def test_the_table_grows_from_one_a_day_to_ten_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate.main(["--model", "sd"]) == 0

    told = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in told.splitlines()[6:]] == list(costs.RATES)


def test_one_rate_is_told_in_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate.main(["--model", "sd", "--per-day", "1"]) == 0

    real_time, queued = capsys.readouterr().out.splitlines()[-2:]
    assert real_time.split()[:2] == ["real-time", "537"]
    assert queued.split()[:2] == ["asynchronous", "8"]


def test_a_person_s_own_seconds_are_taken_for_any_model(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", "me/mine", "--instance-type", "ml.g6.xlarge", "--seconds", "4"]

    assert estimate.main(arguments) == 0
    assert "4 s for a picture: your measurement" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "no such"], "there is no model"),
        (["--model", "sd-turbo"], "pass --seconds"),
        (["--instance-type", "ml.none"], "price of ml.none is not known"),
        (["--seconds", "0"], "--seconds must be more than 0"),
        (["--per-day", "-1"], "--per-day must be more than 0"),
        (["--most-instances", "0"], "--most-instances must be more than 0"),
    ],
)
def test_what_cannot_be_estimated_is_refused_with_the_reason(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert estimate.main(arguments) == 2
    assert reason in capsys.readouterr().err
