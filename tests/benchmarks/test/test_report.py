"""Rows, sections, and their files."""

import pytest

from tests.benchmarks.lib.measuring import Samples
from tests.benchmarks.lib.report import Aim, Figure, Result, Row, Section, number

FAST = Row(
    "an image",
    "ms",
    Figure(50, (45, 60)),
    "the other way",
    Figure(200, (150, 300)),
    Aim("ratio", at_most=0.5),
    "on paper",
)


def row(value, aim=None, baseline=10.0):
    figures = [None if each is None else Figure(each) for each in (value, baseline)]
    return Row("an image", "ms", figures[0], "the other way", figures[1], aim)


def test_a_row_shows_both_figures_their_ratio_and_whether_the_aim_was_met():
    assert FAST.cells() == [
        "an image",
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
def test_an_aim_bounds_the_value_the_ratio_or_the_difference(aim, met):
    assert row(12, aim).met is met


def test_an_aim_without_a_baseline_to_compare_with_stays_open():
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
def test_an_aim_is_shown_with_its_unit(aim, unit, said):
    assert aim.described(unit) == said


def test_a_missed_aim_is_bold():
    assert "**missed**" in row(12, Aim("value", at_most=1)).cells()[-1]


def test_a_missing_figure_is_shown_as_not_measured():
    cells = row(None, Aim("value", at_most=1), baseline=None).cells()

    assert cells[1:4] == ["not measured", "the other way", ""]
    assert "open" in cells[-1]


def test_a_figure_has_the_median_and_the_quartiles_of_its_samples():
    assert Figure.of(Samples((1, 2, 3, 4, 100))) == Figure(3, (2, 4))


def test_a_percentile_is_the_value_that_n_percent_do_not_exceed():
    assert Samples(tuple(range(101))).percentile(95) == 95


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (3, "3"), (1234.5, "1,234"), (12.34, "12.3"), (1.234, "1.23"), (0.0123, "0.012")],
)
def test_numbers_have_three_significant_digits(value, said):
    assert number(value) == said


def test_a_result_is_read_as_it_was_saved(tmp_path):
    section = Section("Speed", "Said first.", (FAST, row(None)), "Said last.", ("pytest",))
    result = Result.of(section, load=1.5)
    path = tmp_path / "results" / "speed.json"

    result.save(path)

    assert Result.read(path) == result


def test_paragraphs_are_wrapped_and_tables_are_not():
    table = f"| {'cell ' * 40}|\n| --- |"
    text = Section("Speed", "word " * 40, (), f"{table}\n\n{'again ' * 40}").markdown()

    long = [line for line in text.splitlines() if len(line) > 100]
    assert long == [table.splitlines()[0]]


def test_a_section_shows_the_conditions_of_its_measurement():
    section = Section("Speed", "Said first.", (FAST,), "Said last.", ("pytest", "no-such"), "a GPU")
    result = Result.of(section, load=1.5)
    text = result.markdown()

    assert text.startswith("## Speed\n\nSaid first.\n\n| figure |")
    assert "\n\nSaid last.\n\n" in text
    assert f"*{result.date}, a GPU, load 1.5 at the start; Python " in text
    assert "pytest " in text
    assert "no-such" not in text
