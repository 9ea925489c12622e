from tests.benchmarks.lib.model_package import variants
from tests.benchmarks.lib.model_package.gpu_aims import target_rows
from tests.benchmarks.lib.report import Figure, Row

H200 = "NVIDIA H200"


def timed(what, seconds, plain=1.0):
    return Row(what, "s", Figure(seconds), variants.PLAIN, Figure(plain))


SD = [
    timed(f"sd, {variants.ANCESTOR}", 4.0),
    timed("sd, Easel", 0.9),
    timed(f"sd, {variants.COMPILED}", 0.7),
    timed("sd, Easel, guidance for 40 % of the steps", 0.1),
    Row("sd, Easel, compiled fully", "s", None, note="failed"),
    Row(f"sd, {variants.CACHED}", "s", Figure(12.0), "compiled without a cache", Figure(60.0)),
]


def test_the_fastest_variant_that_changes_no_image_is_held_to_the_aims():
    ancestor, plain, cached = target_rows("sd", SD, H200)
    assert (ancestor.value.median, ancestor.baseline_value.median, ancestor.met) == (0.7, 4.0, True)
    assert (plain.ratio, plain.met, plain.note) == (0.7, False, variants.COMPILED)
    assert (cached.value.median, cached.met) == (12.0, False)


def test_the_best_batch_is_held_to_its_aim():
    rates = {1: 0.9, 4: 1.6, 8: 1.5}
    rows = [
        Row(f"sdxl, batches of {count}, {variants.COMPILED}", "images/s", Figure(rate))
        for count, rate in rates.items()
    ]
    one, batches = target_rows("sdxl", [timed("sdxl, Easel", 0.85), *rows], H200)
    assert (one.value.median, one.met) == (0.85, False)
    assert (batches.value.median, batches.met, batches.note[:12]) == (1.6, True, "batches of 4")


def test_without_a_gpu_the_aims_are_open_and_on_another_one_there_are_none():
    assert [row.met for row in target_rows("sd", [], "")] == [None] * 3
    assert all(row.value is None for row in target_rows("sd", [], ""))
    assert target_rows("sd", SD, "NVIDIA L4") == []
    assert target_rows("sd-turbo", [timed("sd-turbo, Easel", 0.1)], H200) == []


def test_every_variant_that_counts_as_unchanged_is_a_variant():
    assert set(variants.VARIANTS) >= variants.UNCHANGED
