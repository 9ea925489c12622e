"""docs/performance.md, which must match the results, and the program that writes it."""

import ast

import pytest

from tests.benchmarks import __main__ as program
from tests.benchmarks.lib.page import PAGE, SECTIONS, render, summary
from tests.benchmarks.lib.report import RESULTS, Figure, Result, Row, Section


def test_the_page_shows_the_results_as_they_are():
    assert PAGE.read_text("utf-8") == render(program.BENCHMARKS), (
        "write it again: python -m tests.benchmarks --render"
    )


def test_every_module_with_a_section_is_listed_and_every_result_is_shown():
    modules = {path.stem for path in SECTIONS.glob("*/*.py") if _has_section(path)}

    assert modules == set(program.BENCHMARKS)
    assert {path.stem for path in RESULTS.glob("*.json")} <= modules


def _has_section(path):
    names = [each.name for each in ast.parse(path.read_text()).body if hasattr(each, "name")]
    return "section" in names


def test_sections_are_in_the_given_order(tmp_path):
    for name, title in (("gateway", "First"), ("asynchronous", "Second")):
        section = Section(title, "Said.", (Row("an image", "ms", Figure(1)),))
        Result.of(section, 0).save(tmp_path / f"{name}.json")

    page = render(("asynchronous", "gateway"), tmp_path)

    assert page.index("## Second") < page.index("## First")


def test_a_missing_result_is_shown_with_its_command(tmp_path):
    page = render(("gateway",), tmp_path)

    assert f"## {summary('gateway')}\n" in page
    assert "Not measured yet: `python -m tests.benchmarks gateway`." in page


def test_the_list_names_every_benchmark(capsys):
    assert program.main(["--list"]) == 0

    printed = capsys.readouterr().out
    for name in program.BENCHMARKS:
        assert f"{name} " in printed


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        program.main(["no-such"])

    assert "no such benchmark: no-such" in capsys.readouterr().err


def test_a_quick_run_measures_and_leaves_the_results_alone(
    capsys,
):
    before = {path: path.read_bytes() for path in [PAGE, *RESULTS.glob("*.json")]}

    assert program.main(["--quick", "png_encoding"]) == 0

    assert "| smooth illustration, 64 px: time |" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before
