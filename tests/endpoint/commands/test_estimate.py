from __future__ import annotations

import pytest

from endpoint.commands import estimate
from endpoint.costs.estimate import RATES


def test_the_table_grows_from_one_a_day_to_ten_a_second(capsys):
    assert estimate.main(["--model", "sd"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith("Building the image takes about 10 minutes and costs about 0.20 USD")
    assert [line.split("|")[1].strip() for line in lines[7:]] == list(RATES)


def test_one_rate_is_reported_in_two_lines(capsys):
    assert estimate.main(["--model", "sd", "--per-day", "1"]) == 0

    real_time, queued = capsys.readouterr().out.splitlines()[-2:]
    assert real_time.split()[:2] == ["real-time", "537"]
    assert queued.split()[:2] == ["asynchronous", "8"]


@pytest.mark.parametrize(("reach", "usd"), [([], 0), (["endpoints"], 44)])
def test_a_private_network_adds_its_endpoints_if_it_has_any(capsys, reach, usd):
    assert estimate.main(["--per-day", "1", "--private-network", *reach]) == 0
    line = f"In addition: {usd} USD a month for the private network's endpoints."
    assert line in capsys.readouterr().out.splitlines()


def test_your_own_measurement_is_used_for_any_model(capsys):
    arguments = ["--model", "me/mine", "--instance-type", "ml.g6.xlarge", "--seconds", "4"]

    assert estimate.main(arguments) == 0
    assert "4 s for a picture: your measurement" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "no such"], "there is no model"),
        (["--model", "sd-turbo"], "pass --seconds"),
        (["--instance-type", "ml.none.xlarge"], "price of ml.none.xlarge is not known"),
        (["--seconds", "0"], "--seconds must be more than 0"),
        (["--per-day", "-1"], "--per-day must be more than 0"),
        (["--most-instances", "0"], "--most-instances must be more than 0"),
    ],
)
def test_an_impossible_estimate_is_refused_with_the_reason(arguments, reason, capsys):
    assert estimate.main(arguments) == 2
    assert reason in capsys.readouterr().err
