from tests.benchmarks.lib import ways
from tests.benchmarks.sections import gpu


def test_the_guides_recipe_paints_the_same_picture_whether_its_parts_are_shared(narrow):
    kind = ways.kind_of("narrow")
    shared = ways.build_way("narrow", kind, ways.PLAIN).paint(5)
    apart = ways.build_way("narrow", kind, ways.GUIDE_APART).paint(5)
    assert shared == apart
    for part in ("vae", "text_encoder_2"):
        assert [getattr(a, part) is getattr(b, part) for a, b in narrow] == [True, False]


def test_plain_diffusers_hands_a_batch_over_to_the_refiner(narrow):
    plain = ways.build_way("narrow", ways.kind_of("narrow"), ways.PLAIN)
    first, second = map(ways.read_pixels, plain.paint_batch(5, 2))
    assert ways.psnr(first, ways.read_pixels(plain.paint(5))) > 60
    assert ways.psnr(second, first) < 40


def test_base_and_refiner_are_measured_as_easel_has_them(narrow):
    found = gpu.measure("narrow", ways.kind_of("narrow"), "Easel", None, rounds=2)
    assert found.report["sampler"] == "own"
    assert found.pixels.shape == (64, 64, 3)
