import torch

from tests.benchmarks.lib.model_package import variants
from tests.benchmarks.lib.model_package.batches import batch_rows


class Small:
    """A model with memory for one image only."""

    def __init__(self, model):
        self._model = model

    def generate_batch(self, steps, count):
        if count > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._model.generate_batch(steps, count)


def test_a_batch_holds_as_many_images_and_its_first_is_the_single_one(narrow):
    easel = variants.build_variant("narrow", variants.spec_of("narrow"), "Easel")
    alone = variants.read_pixels(easel.generate(5))
    first, second, third = map(variants.read_pixels, easel.generate_batch(5, 3))
    assert variants.psnr(first, alone) > 60
    assert variants.psnr(second, alone) < 40
    assert variants.psnr(third, second) < 40


def test_batches_end_with_the_one_that_does_not_fit(narrow):
    spec = variants.spec_of("narrow")
    plain = variants.build_variant("narrow", spec, variants.PLAIN)
    fits, does_not = batch_rows("narrow", spec, Small(plain), rounds=2)
    assert (fits.what, fits.unit) == ("narrow, batches of 1, Easel", "images/s")
    assert fits.value.median > 0
    assert (does_not.value, does_not.note) == (None, "does not fit")
