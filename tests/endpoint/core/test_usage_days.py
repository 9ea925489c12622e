"""What was used by day: summed up from records, once for a day that is over."""

import csv
import io
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint.core.usage_days import COLUMNS, Row, days_between, described, report, rows_of, to_csv
from endpoint.core.usage_records import Kind, UsageRecord

DAY = date(2026, 11, 26)
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
RECORDS = st.lists(
    st.builds(
        UsageRecord,
        milliseconds=st.integers(
            int((NOON.timestamp() - 86_400) * 1_000), int((NOON.timestamp() + 86_400) * 1_000)
        ),
        model=st.sampled_from(["sd", "sdxl"]),
        kind=st.sampled_from(Kind),
        gpu_milliseconds=st.integers(0, 60_000),
        micro_usd=st.integers(0, 50_000),
        key=st.sampled_from([None, "ada", "bob"]),
        link=st.sampled_from([None, "0123456789abcdef"]),
        token=st.from_regex(r"[0-9a-f]{12}", fullmatch=True),
    ),
    max_size=12,
    unique_by=lambda record: record.to_key(),
)


class Folder:
    """Objects in a dict, and how often they were listed."""

    def __init__(self, records=()):
        self.objects = {record.to_key(): b"" for record in records}
        self.listed = 0

    def keys(self, start):
        self.listed += 1
        return [key for key in sorted(self.objects) if key.startswith(start)]

    def read(self, key):
        return self.objects.get(key)

    def create(self, key, body):
        self.objects.setdefault(key, body)


def record(seconds=0.0, **fields):
    moment = (NOON + timedelta(seconds=seconds)).timestamp()
    return UsageRecord.now(moment, "sd", Kind.REALTIME, 2, 0.001, **fields)


@given(RECORDS)
def test_the_rows_of_days_come_to_what_their_records_say(records):
    folder = Folder(records)
    later = NOON + timedelta(days=3)
    days = days_between(DAY - timedelta(days=1), DAY + timedelta(days=1))
    rows = [row for day in days for row in rows_of(folder, day, later)]
    again = [row for day in days for row in rows_of(folder, day, later)]

    assert again == rows
    assert folder.listed == len(days)
    together = described(rows)
    assert together["pictures"] == sum(one.kind != "failed" for one in records)
    assert together["gpu_seconds"] * 1_000 == pytest.approx(
        sum(one.gpu_milliseconds for one in records)
    )
    by_key = Counter()
    for one in records:
        by_key[one.key or ""] += one.micro_usd
    listed = {one["key"]: one["usd"] for one in report(rows, days)["keys"]}
    assert listed == {name: pytest.approx(usd / 1e6) for name, usd in by_key.items()}


def test_a_day_is_not_summed_up_before_its_last_record_can_be_there():
    folder = Folder([record(key="ada")])
    midnight = datetime(2026, 11, 27, tzinfo=UTC)
    before = rows_of(folder, DAY, midnight + timedelta(minutes=14))
    assert set(folder.objects) == {
        record_key for record_key in folder.objects if "days" not in record_key
    }

    late = record(11 * 3_600, key="ada")
    folder.objects[late.to_key()] = b""
    after = rows_of(folder, DAY, midnight + timedelta(minutes=15))
    assert (before[0].pictures, after[0].pictures) == (1, 2)
    assert "days/2026-11-26.json" in folder.objects


def test_a_report_has_every_day_and_no_link_without_a_name():
    days = days_between(DAY - timedelta(days=2), DAY)
    rows = rows_of(Folder([record(key="ada"), record(key="ada", link="a1")]), DAY, NOON)
    described = report(rows, days)

    assert [one["pictures"] for one in described["days"]] == [0, 0, 2]
    assert [one["link"] for one in described["links"]] == ["a1"]
    assert (described["from"], described["to"]) == ("2026-11-24", "2026-11-26")
    assert described["usd"] == pytest.approx(0.002)


def test_a_table_is_read_back_by_any_reader_of_csv():
    row = Row("2026-11-26", "ada", "", "sd", "realtime", 3, 2_500, 1_250)
    (header, line) = csv.reader(io.StringIO(to_csv([row])))

    assert tuple(header) == COLUMNS
    assert line == ["2026-11-26", "ada", "", "sd", "realtime", "3", "2.5", "0.00125"]
