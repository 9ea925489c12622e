import math

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model_package.training.buckets import bucket_step, buckets, choose_bucket, fit

RESOLUTIONS = st.sampled_from([64, 128, 256, 512, 768, 1_024])
SIDES = st.integers(16, 4_000)


@given(RESOLUTIONS)
def test_buckets_have_about_the_same_area(resolution):
    step = bucket_step(resolution)

    for width, height in buckets(resolution):
        assert width % step == height % step == 0
        assert width * height <= resolution**2
        assert min(width, height) >= step


@given(SIDES, SIDES, RESOLUTIONS)
def test_the_bucket_has_the_nearest_shape(width, height, resolution):
    bucket = choose_bucket((width, height), resolution)

    def stretch(size):
        return abs(math.log(size[0] / size[1]) - math.log(width / height))

    assert stretch(bucket) == min(map(stretch, buckets(resolution)))


@given(SIDES, SIDES, RESOLUTIONS, st.booleans())
def test_without_upscaling_no_side_is_longer_than_the_picture(width, height, resolution, shapes):
    bucket = choose_bucket((width, height), resolution, shapes=shapes, upscale=False)

    step = bucket_step(resolution)
    assert bucket[0] <= max(width, step)
    assert bucket[1] <= max(height, step)
    assert shapes or bucket[0] == bucket[1]


@given(st.integers(16, 300), st.integers(16, 300))
def test_a_picture_covers_its_bucket(width, height):
    fitted = fit(Image.new("RGB", (width, height), "red"), (64, 96))

    assert fitted.image.size == (64, 96)
    assert fitted.image.getextrema() == ((255, 255), (0, 0), (0, 0))
    assert fitted.original == (height, width)
    assert min(fitted.top_left) == 0


def test_1024_has_the_buckets_of_sdxl():
    assert {(1_024, 1_024), (832, 1_216), (1_344, 768)} <= set(buckets(1_024))
