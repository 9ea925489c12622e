from __future__ import annotations

import pytest

from endpoint.catalogue import benchmarks, models, prices
from endpoint.catalogue.benchmarks import Benchmark


def test_a_published_benchmark_names_a_model_a_type_and_its_source():
    for benchmark in benchmarks.known():
        types = models.read()[benchmark.model].instance_types
        assert benchmark.instance_type in types or prices.is_inferentia(benchmark.instance_type)
        assert benchmark.seconds
        assert "https://" in benchmark.source


def test_every_model_has_an_entry_measured_or_not():
    assert [*dict.fromkeys(item.model for item in benchmarks.by_model())] == [*models.read()]


def test_a_thousand_pictures_cost_their_seconds_of_the_instance_and_the_gateway():
    gpu = 1_000 * 3.6 / 3_600 * 0.736
    lambdas = 1_000 * 3.6 * 0.0000166667
    requests = 1_000 * (0.2 + 3.5) / 1e6
    traffic = 1.5 * 0.09
    s3 = 3 * 0.005 + 2 * 0.0004

    benchmark = Benchmark("sd", "ml.g4dn.xlarge", 3.6, "a test")
    assert benchmark.per_thousand == pytest.approx(gpu + lambdas + requests + traffic + s3)


def test_a_computed_duration_says_so_and_is_not_published():
    computed = [one for one in benchmarks.known() if one.computed]
    assert computed
    assert not {one.model for one in computed} & {one.model for one in benchmarks.published()}


def test_without_a_measurement_there_is_no_price():
    assert Benchmark("sd-turbo", "ml.g4dn.xlarge", None, "").per_thousand is None
