import json
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint.core.training_jobs.progress import curve, loss_svg, read, smoothed, thinned


def lines(count, *, start=1):
    return "".join(
        json.dumps({"step": n, "loss": 1 / n, "rate": 1e-4, "seconds": 0.5, "cost": n / 100}) + "\n"
        for n in range(start, start + count)
    )


def test_steps_validation_and_cost_are_read():
    progress = read('{"step": 0, "validation": 0.7}\n' + lines(40))

    assert progress.step == 40
    assert progress.loss[0] == (1, 1.0)
    assert progress.validation == ((0, 0.7),)
    assert progress.cost == 0.4
    assert progress.seconds == 20
    assert progress.seconds_left(100) == 30


def test_before_the_first_step_nothing_is_known():
    progress = read("")

    assert (progress.step, progress.cost, progress.seconds_left(10)) == (0, 0.0, None)
    assert curve(progress, steps=10) == "no steps yet"
    assert "no steps yet" in loss_svg(progress, steps=10, title="x")


@pytest.mark.parametrize(
    "line",
    ['{"step": 4, "lo', "[1]", "null", '{"step": true, "loss": 1}', '{"step": 3, "loss": NaN}',
     '{"step": "9", "loss": 1}', '{"step": 9, "loss": 1e999}', '{"step": -1, "loss": 1}',
     '{"step": 9, "loss": "1"}', "[" * 5_000],
)  # fmt: skip
def test_a_damaged_line_is_left_out(line):
    assert read(lines(2) + line).loss == ((1, 1.0), (2, 0.5))


def test_a_resumed_run_has_one_line_for_a_step():
    assert [step for step, _ in read(lines(5) + lines(3, start=4)).loss] == [1, 2, 3, 4, 5, 6]


def test_thinning_keeps_the_mean_and_the_last_step():
    points = tuple((step, float(step % 2)) for step in range(1, 1_001))

    kept = thinned(points, 100)
    assert len(kept) == 100
    assert kept[-1] == (1_000, 0.5)
    assert thinned(points[:3], 100) == list(points[:3])


def test_the_mean_of_equal_losses_is_that_loss():
    assert smoothed(tuple((n, 2.0) for n in range(100)))[-1][1] == pytest.approx(2.0)


def test_the_svg_file_is_well_formed_whatever_the_title():
    progress = read('{"step": 0, "validation": 0.7}\n' + lines(800))
    svg = loss_svg(progress, steps=1_000, title='<script>"&\x00\ud800')

    root = fromstring(svg)  # noqa: S314 - our own
    drawn = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(drawn) == 3
    assert "<script" not in svg
    assert "1,000" in svg


def test_the_curve_of_a_falling_loss_falls():
    rows = curve(read(lines(100)), steps=100, width=20, height=4).splitlines()

    assert len(rows) == 6
    drawing = [row.partition("│")[2] for row in rows[:4]]
    assert {len(row) for row in drawing} == {20}
    blank = chr(0x2800)
    assert drawing[0].strip(blank)
    assert drawing[0].rstrip(blank) < drawing[0]  # the end is lower
    assert drawing[3].strip(blank)
    assert rows[-1].endswith("100")


def test_the_curve_of_half_a_run_has_half_the_width():
    rows = curve(read(lines(50)), steps=100, width=20, height=4).splitlines()

    assert all(not row.partition("│")[2][11:].strip(chr(0x2800)) for row in rows[:4])


@given(st.lists(st.floats(allow_nan=True), max_size=8), st.integers(1, 20))
def test_any_losses_are_drawn(losses, steps):
    text = "\n".join(json.dumps({"step": n, "loss": loss}) for n, loss in enumerate(losses))
    progress = read(text)

    fromstring(loss_svg(progress, steps=steps, title="x"))  # noqa: S314 - our own
    assert curve(progress, steps=steps, width=5, height=2)
