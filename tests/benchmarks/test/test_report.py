"""Rows, sections, and what is kept of them."""

from pathlib import Path

import pytest

from tests.benchmarks.lib.measuring import Samples
from tests.benchmarks.lib.report import Aim, Figure, Result, Row, Section, number

FAST = Row(
    "a picture",
    "ms",
    Figure(50, (45, 60)),
    "the other way",
    Figure(200, (150, 300)),
    Aim("ratio", at_most=0.5),
    "on paper",
)


def row(value: float | None, aim: Aim | None = None, baseline: float | None = 10.0) -> Row:
    figures = [None if each is None else Figure(each) for each in (value, baseline)]
    return Row("a picture", "ms", figures[0], "the other way", figures[1], aim)


def test_a_row_tells_both_figures_their_ratio_and_whether_the_aim_was_met() -> None:
    assert FAST.cells() == [
        "a picture",
        "50 ms (45 to 60)",
        "the other way: 200 ms (150 to 300)",
        "0.25",
        "aim: ratio at most 0.50, met; on paper",
    ]


@pytest.mark.parametrize(
    ("aim", "met"),
    [
        (Aim("value", at_most=12), True),
        (Aim("value", at_most=11), False),
        (Aim("value", at_least=12), True),
        (Aim("value", at_least=13), False),
        (Aim("ratio", at_most=1.2), True),
        (Aim("ratio", at_most=1.1), False),
        (Aim("difference", at_most=2), True),
        (Aim("difference", at_most=1.9), False),
        (None, None),
    ],
)
def test_an_aim_is_for_the_value_the_ratio_or_the_difference(aim: Aim | None, met: bool) -> None:
    assert row(12, aim).met is met


def test_an_aim_without_a_baseline_to_compare_with_stays_open() -> None:
    assert row(12, Aim("ratio", at_most=2), baseline=None).met is None
    assert row(12, Aim("difference", at_most=2), baseline=None).met is None


@pytest.mark.parametrize(
    ("aim", "unit", "said"),
    [
        (Aim("value", at_most=3), "ms", "at most 3 ms"),
        (Aim("value", at_most=1), "", "at most 1"),
        (Aim("ratio", at_least=0.5), "ms", "ratio at least 0.50"),
        (
            Aim("difference", at_most=3, at_least=1),
            "MB",
            "difference at most 3 MB and at least 1 MB",
        ),
    ],
)
def test_an_aim_is_said_with_its_unit_where_it_has_one(aim: Aim, unit: str, said: str) -> None:
    assert aim.in_words(unit) == said


def test_a_missed_aim_is_said_in_bold() -> None:
    assert "**missed**" in row(12, Aim("value", at_most=1)).cells()[-1]


def test_what_was_not_measured_is_said_to_be_so() -> None:
    cells = row(None, Aim("value", at_most=1), baseline=None).cells()

    assert cells[1:4] == ["not measured", "the other way", ""]
    assert "open" in cells[-1]


def test_a_figure_has_the_median_and_the_quartiles_of_its_samples() -> None:
    assert Figure.of(Samples((1, 2, 3, 4, 100))) == Figure(3, (2, 4))


def test_a_percentile_is_the_value_that_so_many_do_not_exceed() -> None:
    assert Samples(tuple(range(101))).percentile(95) == 95


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (3, "3"), (1234.5, "1,234"), (12.34, "12.3"), (1.234, "1.23"), (0.0123, "0.012")],
)
def test_numbers_have_as_many_digits_as_they_deserve(value: float, said: str) -> None:
    assert number(value) == said


def test_a_result_is_read_as_it_was_saved(tmp_path: Path) -> None:
    section = Section("Speed", "Said first.", (FAST, row(None)), "Said last.", ("pytest",))
    result = Result.of(section, load=1.5)
    path = tmp_path / "results" / "speed.json"

    result.save(path)

    assert Result.read(path) == result


def test_a_section_says_when_and_on_what_it_was_measured() -> None:
    section = Section("Speed", "Said first.", (FAST,), "Said last.", ("pytest", "no-such"), "a GPU")
    result = Result.of(section, load=1.5)
    text = result.markdown()

    assert text.startswith("## Speed\n\nSaid first.\n\n| figure |")
    assert "\n\nSaid last.\n\n" in text
    assert f"*{result.date}, a GPU, load 1.5 at the start; Python " in text
    assert "pytest " in text
    assert "no-such" not in text
