import math

import numpy as np

from tests.benchmarks.lib.measuring import Samples
from tests.benchmarks.lib.model_package import variants
from tests.benchmarks.lib.model_package.full_size import ModelSpec
from tests.benchmarks.sections.model_package import gpu

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def measured(**changes):
    values = {"seconds": Samples((1.0, 2.0)), "first": 9.0, "per_step": 0.01, "pixels": PIXELS}
    return gpu.Measurement(**{**values, "plain": None, "gibibytes": 3.0, **changes})


class Plain(variants.Reference):
    """Plain diffusers whose image exists already."""

    pixels = PIXELS


def test_closeness_is_infinite_for_the_same_image_and_48_decibels_for_one_step_of_brightness():
    assert math.isinf(variants.psnr(PIXELS, PIXELS))
    assert round(variants.psnr(PIXELS + 1, PIXELS), 1) == 48.1


def test_a_row_shows_what_a_variant_gains_and_costs():
    slower = {"plain": Samples((4.0, 4.0)), "report": {"compile": "off: as set"}}
    plain = Plain("sd", variants.MODELS["sd"])
    row = gpu._row("sd, Easel", measured(pixels=PIXELS + 1, **slower), plain)
    assert row.ratio == 1.5 / 4
    assert row.note == (
        "first image 9.0 s; 10.0 ms per step; peak 3.0 GiB during generation; 48 dB; "
        "compile off: as set"
    )


def test_a_variant_that_fails_is_a_row_and_not_the_end(monkeypatch):
    def fail(*_):
        raise MemoryError("CUDA out of memory")

    monkeypatch.setitem(variants.MODELS, "huge", ModelSpec(fail, 1, 0.0, 64))
    rows = list(gpu.rows_of("huge", [variants.PLAIN, "Easel"], rounds=2, until=math.inf))
    assert [row.value for row in rows] == [None, None]
    assert "CUDA out of memory" in rows[0].note
    (late,) = gpu.rows_of("huge", [variants.PLAIN], rounds=2, until=-math.inf)
    assert late.note == "no time left"


def test_the_section_is_saved_after_each_row(monkeypatch):
    monkeypatch.setattr(gpu, "rows_of", lambda *_: iter([gpu.Row("a", "s", None)] * 2))
    kept = []
    section = gpu.measure_all(["demo", "sd"], ["Easel"], 2, 1, kept.append)
    assert [len(section.rows) for section in kept[:2]] == [1, 2]
    assert kept[-1] == section
    assert section.rows[2].note == "needs a GPU"
    assert "for one H200" in section.rows[-1].note
