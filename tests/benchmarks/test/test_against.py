"""This checkout against another one."""

import argparse
import ast
import json
import subprocess

import pytest

from tests.benchmarks import __main__ as program
from tests.benchmarks.lib import against
from tests.benchmarks.lib.page import PAGE, SECTIONS
from tests.benchmarks.lib.report import RESULTS, Figure
from tests.benchmarks.sections.gateway import gateway
from tests.benchmarks.sections.model_package import start_up
from tests.packages import ROOT


@pytest.mark.slow
def test_this_checkout_makes_as_many_copies_as_itself(capsys):
    before = {path: path.read_bytes() for path in [PAGE, *RESULTS.glob("*.json")]}

    assert program.main(["copies", "--against", str(ROOT)]) == 0

    printed = capsys.readouterr().out
    assert "the other checkout: 4" in printed
    assert "| 1 | aim: ratio at most 1.05, met |" in printed
    assert {path: path.read_bytes() for path in before} == before


def test_a_figure_is_reported_next_to_the_other_checkouts():
    figures = {against.THIS: Figure(12), against.OTHER: Figure(10)}
    row = against.row("cold start", "ms", figures)

    assert row.cells()[1:4] == ["12 ms", "the other checkout: 10 ms", "1.20"]
    assert row.met is False


def test_both_gateways_are_measured_in_turns(monkeypatch, tmp_path):
    started = []

    def cold_start(folder, environment, computing):
        started.append(folder.name)
        computing.append(1.0)
        return 2.0

    monkeypatch.setattr(gateway, "cold_start", cold_start)
    folders = {against.THIS: tmp_path / "this", against.OTHER: tmp_path / "other"}

    samples = gateway.measure_cold(folders, {}, rounds=2)

    assert started == ["this", "other"] * 2
    assert {samples[name].median for name in folders} == {2.0}
    assert {samples[f"{name}, computing"].median for name in folders} == {1.0}


def test_a_start_runs_the_other_checkouts_inference_script(monkeypatch, tmp_path):
    code = []

    def run(command, env, **_):
        code.append(env["PYTHONPATH"])
        times = {"marks": [1, 3, 6, 10], "steps": {}, "computed": 5, "peak": 100}
        return subprocess.CompletedProcess(command, 0, json.dumps(times))

    monkeypatch.setattr(start_up.subprocess, "run", run)
    monkeypatch.setattr(start_up, "make_model", lambda *_: None)

    section = start_up.compare(tmp_path, quick=True)

    other = str(tmp_path / "model_package" / "code")
    assert code == [str(ROOT / "model_package" / "code"), other] * 2
    assert [row.value.median for row in section.rows] == [6, 5, 100]
    assert "| the other checkout | 1.00 | 2.00 | 3.00 | 4.00 |" in section.details


def test_a_folder_without_the_entry_points_is_refused(tmp_path):
    with pytest.raises(argparse.ArgumentTypeError, match=r"gateway/app\.py is missing"):
        against.checkout(str(tmp_path))
    assert against.checkout(str(ROOT)) == ROOT


def test_a_benchmark_that_cannot_compare_is_refused(capsys):
    with pytest.raises(SystemExit):
        program.main(["load", "--against", str(ROOT)])

    assert "no such benchmark: load" in capsys.readouterr().err


def test_every_benchmark_that_can_compare_is_listed():
    def functions(path):
        return {each.name for each in ast.parse(path.read_text()).body if hasattr(each, "name")}

    comparing = {path.stem for path in SECTIONS.glob("*/*.py") if "compare" in functions(path)}
    assert comparing == set(program.COMPARED)
