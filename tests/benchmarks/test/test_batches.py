import torch

from tests.benchmarks.lib import ways
from tests.benchmarks.lib.batches import batch_rows


class Small:
    """A way to paint that has room for one picture only."""

    def __init__(self, way):
        self._way = way

    def paint_batch(self, steps, count):
        if count > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._way.paint_batch(steps, count)


def test_a_batch_holds_as_many_pictures_and_its_first_is_the_single_one(narrow):
    easel = ways.build_way("narrow", ways.kind_of("narrow"), "Easel")
    alone = ways.read_pixels(easel.paint(5))
    first, second, third = map(ways.read_pixels, easel.paint_batch(5, 3))
    assert ways.psnr(first, alone) > 60
    assert ways.psnr(second, alone) < 40
    assert ways.psnr(third, second) < 40


def test_batches_end_with_the_one_that_does_not_fit(narrow):
    kind = ways.kind_of("narrow")
    plain = ways.build_way("narrow", kind, ways.PLAIN)
    fits, does_not = batch_rows("narrow", kind, Small(plain), rounds=2)
    assert (fits.what, fits.unit) == ("narrow, batches of 1, Easel", "pictures/s")
    assert fits.value.median > 0
    assert (does_not.value, does_not.note) == (None, "does not fit")
