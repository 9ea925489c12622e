from easel.defaults import Defaults
from easel.generator import ImageGenerator
from tests.benchmarks.sections.model_package import batching
from tests.model_package.easel.batching.runs import pipelines


def test_each_number_of_clients_is_compared_with_one_after_the_other(monkeypatch):
    defaults = Defaults(steps=2, width=64, height=64)
    monkeypatch.setattr(batching, "load", lambda _: ImageGenerator(pipelines("sd")[0], defaults))
    monkeypatch.setattr(batching, "CLIENTS", (1, 2))
    size, seconds, one, two, against = batching.rows_of("demo", rounds=2)

    assert size.value.median in (1, 2, 4, 8)
    assert seconds.value.median > 0
    assert [row.what for row in (one, two)] == ["demo, 1 client", "demo, 2 clients"]
    assert all(row.ratio > 0 and row.baseline == batching.SERIAL for row in (one, two))
    assert against.unit == "" or against.value.median > 60


def test_large_models_need_a_gpu():
    rows = batching.measure(["sd-turbo"], rounds=2).rows
    assert [(row.value, row.note) for row in rows] == [(None, "needs a GPU")]
