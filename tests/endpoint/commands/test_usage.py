from __future__ import annotations

import csv
import io
import json
from datetime import timedelta

import pytest

from endpoint.commands import usage
from endpoint.core.usage_records import Kind, UsageRecord
from tests.endpoint.doubles import BUCKET


@pytest.fixture
def used(world):
    """A bucket with three pictures and a failure, and its keys so far."""
    s3 = world.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for days, name, kind in ((0, "ada", "realtime"), (0, "ada", "failed"), (3, "bob", "realtime")):
        moment = (world.now() - timedelta(days=days)).timestamp()
        record = UsageRecord.now(moment, "sd", Kind(kind), 2.5, 0.001, name)
        s3.put_object(Bucket=BUCKET, Key=f"usage/{record.to_key()}", Body=b"")
    return lambda: {
        item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, Prefix="usage/")["Contents"]
    }


def test_a_report_has_totals_and_tables(world, used, capsys):
    assert world.run(usage.main) == 0
    said = capsys.readouterr().out

    assert "2 pictures, 8 s of GPU time, 0.00 USD" in said
    assert "ada" in said
    assert "0.0020" in said
    assert "can be missing" in said


def test_it_is_read_by_programs(world, used, capsys):
    assert world.run(usage.main, "--json", "--days", "2") == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["pictures"], data["gpu_seconds"], data["usd"]) == (1, 5, 0.002)
    assert [one["key"] for one in data["keys"]] == ["ada"]

    assert world.run(usage.main, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["key"], row["kind"], row["pictures"]) for row in rows] == [
        ("bob", "realtime", "1"),
        ("ada", "failed", "0"),
        ("ada", "realtime", "1"),
    ]


def test_days_that_are_over_are_summed_up_once(world, used, capsys):
    assert world.run(usage.main, "--dry-run") == 0
    assert len(used()) == 3

    capsys.readouterr()
    reports = []
    for _ in range(2):
        assert world.run(usage.main, "--json") == 0
        reports.append(capsys.readouterr().out)
    assert reports[0] == reports[1]
    # All but today, and but yesterday as long as one of its records may still be written.
    assert len([key for key in used() if key.startswith("usage/days/")]) in {28, 29}


def test_nothing_used_is_one_line(world, capsys):
    world.client("s3").create_bucket(Bucket=BUCKET)
    assert world.run(usage.main, "--days", "1") == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_without_a_deployment_it_says_so(world, capsys):
    assert world.run(usage.main, "--name", "other") == 1
    assert "There is no deployment other" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--days", "0"),
        ("--days", "367"),
        ("--days", "3", "--from", "2020-01-01"),
        ("--from", "tomorrow"),
        ("--from", "9999-01-01"),
        ("--json", "--csv"),
    ],
)
def test_wrong_days_are_refused(world, arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        raise SystemExit(world.run(usage.main, *arguments))
    assert capsys.readouterr().err
