import json

from tests.benchmarks.lib.measuring import Samples
from tests.benchmarks.sections.gateway.meter import WITH, WITHOUT, environment, report

LATENCY = {name: Samples((10.0, 12.0)) for name in (WITH, WITHOUT)}


def missed(computing, calls):
    rows = report({WITH: computing, WITHOUT: 10.0}, LATENCY, calls).rows
    return [row.what for row in rows if row.aim is not None and not row.met]


def test_two_milliseconds_and_one_call_are_the_limit():
    assert missed(12.0, 1) == []
    assert missed(12.1, 2) == [
        "processor time of an image with the meter",
        "S3 calls of the meter for an image",
    ]


def test_only_one_of_the_gateways_records_what_is_used():
    metered, plain = (environment("http://127.0.0.1:1", name) for name in (WITH, WITHOUT))

    assert metered.items() - plain.items() == {("EASEL_USAGE", "s3://easel-main/usage/")}
    assert json.loads(plain["EASEL_MODELS"])["sd"]["usd_per_hour"] > 0
