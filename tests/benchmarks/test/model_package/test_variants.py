from tests.benchmarks.lib.model_package import variants
from tests.benchmarks.sections.model_package import gpu


def test_the_guides_recipe_generates_the_same_image_whether_its_parts_are_shared(narrow):
    spec = variants.spec_of("narrow")
    shared = variants.build_variant("narrow", spec, variants.PLAIN).generate(5)
    apart = variants.build_variant("narrow", spec, variants.GUIDE_APART).generate(5)
    assert shared == apart
    for part in ("vae", "text_encoder_2"):
        assert [getattr(a, part) is getattr(b, part) for a, b in narrow] == [True, False]


def test_plain_diffusers_hands_a_batch_over_to_the_refiner(narrow):
    plain = variants.build_variant("narrow", variants.spec_of("narrow"), variants.PLAIN)
    first, second = map(variants.read_pixels, plain.generate_batch(5, 2))
    assert variants.psnr(first, variants.read_pixels(plain.generate(5))) > 60
    assert variants.psnr(second, first) < 40


def test_base_and_refiner_are_measured_as_easel_has_them(narrow):
    measured = gpu.measure("narrow", variants.spec_of("narrow"), "Easel", None, rounds=2)
    assert measured.report["sampler"] == "own"
    assert measured.pixels.shape == (64, 64, 3)
