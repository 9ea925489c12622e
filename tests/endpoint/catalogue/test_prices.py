import json
from datetime import date
from pathlib import Path

from endpoint.catalogue import prices

DATA = json.loads(Path(prices.__file__).with_name("prices.json").read_text())


def test_the_prices_say_from_where_and_as_of_when_they_are():
    assert DATA["source"]
    assert date.fromisoformat(DATA["as_of"]) >= date(2026, 1, 1)
    assert DATA["as_of"] in prices.provenance()


def test_a_price_that_was_not_read_says_so():
    assert "Nothing was read" not in prices.provenance(["ml.g5.xlarge"])
    types = ["ml.inf2.xlarge", "ml.g5.xlarge", "ml.m5.2xlarge"]
    assert "Nothing was read for ml.inf2.xlarge and ml.m5.2xlarge." in prices.provenance(types)
    assert DATA["remembered_source"]


def test_the_types_without_a_gpu_have_a_price_and_the_cheapest_is_first():
    kinds = list(prices.cpu_types().values())
    assert kinds == sorted(kinds, key=lambda kind: kind.usd_per_hour)
    assert prices.dearest(prices.cpu_types()) == kinds[-1].usd_per_hour
    assert not prices.cpu_types().keys() & prices.instance_types().keys()


def test_quota_codes_look_like_quota_codes():
    codes = [kind.quota_code for kind in prices.instance_types().values() if kind.quota_code]
    assert codes
    assert all(code.startswith("L-") and len(code) == 10 for code in codes)


def test_the_dearest_of_some_types_is_found():
    assert prices.dearest(["ml.g4dn.xlarge", "ml.g5.xlarge"]) == 1.408


def test_a_type_without_a_price_makes_the_price_unknown_and_not_zero():
    assert prices.dearest(["ml.g4dn.xlarge", "ml.p99.xlarge"]) is None
    assert prices.dearest([]) is None
    assert "unknown price" in prices.in_words(None)


def test_a_price_is_reported_per_hour_day_and_month():
    assert prices.in_words(1.0, 2) == "2.000 USD per hour (48.00 per day, 1460 per month)"


def test_storage_is_counted_by_the_gibibyte():
    assert round(prices.storage_per_month(10 * 1024**3), 3) == 0.23
