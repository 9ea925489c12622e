"""The records of pictures: keys that say everything, and sort by time."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint.core.usage_records import Kind, UsageRecord, first_key, keys_of_day

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
# From 1970 to 2100.
MOMENTS = st.integers(0, 4_102_444_799_999)
RECORDS = st.builds(
    UsageRecord,
    milliseconds=MOMENTS,
    model=NAMES,
    kind=st.sampled_from(Kind),
    gpu_milliseconds=st.integers(0, 10**9),
    micro_usd=st.integers(0, 10**12),
    key=st.none() | NAMES,
    link=st.none() | NAMES,
    token=st.from_regex(r"[0-9a-f]{12}", fullmatch=True),
)


@given(RECORDS)
def test_a_record_is_read_from_its_key(record):
    assert UsageRecord.from_key(record.to_key()) == record


@given(RECORDS, RECORDS)
def test_the_keys_of_records_sort_by_time(first, second):
    if first.milliseconds < second.milliseconds:
        assert first.to_key() < first_key(second.milliseconds) < second.to_key()


@given(RECORDS)
def test_a_day_has_its_own_records_only(record):
    assert record.to_key().startswith(keys_of_day(record.day))


def test_a_key_is_written_as_the_design_says():
    moment = datetime(2026, 11, 26, 11, 45, 12, 123_456, UTC).timestamp()
    record = UsageRecord.now(moment, "sd", Kind.REALTIME, 2.3456, 0.001234, key="ada")

    start, token = record.to_key().rsplit("/", 1)

    assert start == "records/2026-11/26T114512.123/ada/-/sd/realtime/2346/1234"
    assert len(token) == 12
    assert record.day == date(2026, 11, 26)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "records/2026-11/26T114512.123",
        "records/2026-13/26T114512.123/ada/-/sd/realtime/1/1/0123456789ab",
        "records/2026-11/26T114512.123/../-/sd/realtime/1/1/0123456789ab",
        "records/2026-11/26T114512.123/ada/-/sd/other/1/1/0123456789ab",
        "records/2026-11/26T114512.123/ada/-/sd/realtime/-1/1/0123456789ab",
        "records/2026-11/26T114512.123/ada/-/sd/realtime/1/1/0123456789ab\n",
    ],
)
def test_any_other_key_is_no_record(key):
    with pytest.raises(ValueError, match="is not|not a valid|does not match"):
        UsageRecord.from_key(key)


def test_a_failure_counts_as_no_picture():
    record = UsageRecord.now(0, "sd", Kind.FAILED, 1, 0.1)

    assert (record.pictures, record.gpu_milliseconds) == (0, 1_000)
