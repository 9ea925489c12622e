import pytest

from tests.benchmarks.lib.model_package.first_image import (
    FirstImage,
    compile_and_pack,
    compile_from_cache,
    first_row,
)


def test_the_cache_goes_from_the_home_that_made_it_to_another():
    calls = []

    def call(measure, name, home, folder):
        calls.append((measure, name, home, folder))
        assert home.is_dir()
        return FirstImage(60.0, 0.5) if measure is compile_and_pack else FirstImage(6.0, 0.25)

    row = first_row("demo, cached", "demo", call)
    assert (row.value.median, row.baseline_value.median) == (6.0, 60.0)
    assert row.note.endswith("the next takes 0.25 s")
    assert [measure for measure, *_ in calls] == [compile_and_pack, compile_from_cache]
    (_, _, maker, packed), (_, _, server, unpacked) = calls
    assert maker != server
    assert packed == unpacked


def test_a_model_that_takes_no_cache_is_not_measured_as_one_that_does(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RuntimeError, match="not regional, cached, but off: no cache came with"):
        compile_from_cache("demo", tmp_path, tmp_path)
