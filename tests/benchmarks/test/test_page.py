"""docs/performance.md, held to the results, and the program that writes it."""

import ast
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as program
from tests.benchmarks.lib.page import PAGE, SECTIONS, render, summary
from tests.benchmarks.lib.report import RESULTS, Figure, Result, Row, Section


def test_the_page_shows_the_results_as_they_are() -> None:
    assert PAGE.read_text("utf-8") == render(program.BENCHMARKS), (
        "write it again: python -m tests.benchmarks --render"
    )


def test_every_module_with_a_section_is_listed_and_every_result_is_shown() -> None:
    modules = {path.stem for path in SECTIONS.glob("*.py") if _has_section(path)}

    assert modules == set(program.BENCHMARKS)
    assert {path.stem for path in RESULTS.glob("*.json")} <= modules


def _has_section(path: Path) -> bool:
    names = [each.name for each in ast.parse(path.read_text()).body if hasattr(each, "name")]
    return "section" in names


def test_sections_stand_in_the_order_asked_for(tmp_path: Path) -> None:
    for name, title in (("gateway", "First"), ("asynchronous", "Second")):
        section = Section(title, "Said.", (Row("a picture", "ms", Figure(1)),))
        Result.of(section, 0).save(tmp_path / f"{name}.json")

    page = render(("asynchronous", "gateway"), tmp_path)

    assert page.index("## Second") < page.index("## First")


def test_what_has_no_result_yet_is_said_with_its_command(tmp_path: Path) -> None:
    page = render(("gateway",), tmp_path)

    assert f"## {summary('gateway')}\n" in page
    assert "Not measured yet: `python -m tests.benchmarks gateway`." in page


def test_the_list_tells_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--list"]) == 0

    told = capsys.readouterr().out
    for name in program.BENCHMARKS:
        assert f"{name} " in told


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["no-such"])

    assert "no such benchmark: no-such" in capsys.readouterr().err


def test_a_quick_run_measures_and_leaves_the_results_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path: path.read_bytes() for path in [PAGE, *RESULTS.glob("*.json")]}

    assert program.main(["--quick", "png_encoding"]) == 0

    assert "| smooth illustration, 64 px: time |" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before
