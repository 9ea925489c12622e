import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from easel.output.png import encode_png

GRAIN = np.random.default_rng(5)


def decode(png):
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return np.asarray(image), image


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
    flat=st.booleans(),
)
def test_pillow_decodes_exactly_the_pixels_that_went_in(height, width, seed, flat):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    if flat:
        pixels[:] = pixels[0, 0]
    decoded, image = decode(encode_png(pixels))
    assert image.mode == "RGB"
    assert np.array_equal(decoded, pixels)


def test_the_extremes_next_to_each_other_survive():
    pixels = np.zeros((64, 72, 3), np.uint8)
    pixels[::2, ::2] = 255
    pixels[1::2, 1::2, 1] = 254
    assert np.array_equal(decode(encode_png(pixels))[0], pixels)


def test_a_picture_may_lie_in_memory_in_any_order():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    views = (pixels[::-1, ::-1, ::-1], pixels.transpose(1, 0, 2), np.asfortranarray(pixels))
    for view in views:
        assert np.array_equal(decode(encode_png(view))[0], view)


def test_texts_are_read_back_in_any_script():
    texts = {"parameters": "eine Brücke über 東京 🌉\nSteps: 2", "easel": '{"prompt": "Привет"}'}
    image = decode(encode_png(np.zeros((8, 8, 3), np.uint8), texts))[1]
    assert image.text == texts


def test_every_chunk_has_the_checksum_that_the_format_requires():
    png = encode_png(np.zeros((8, 8, 3), np.uint8), {"parameters": "a"})
    kinds, place = [], 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4], "big")
        body = png[place + 4 : place + 8 + length]
        assert int.from_bytes(png[place + 8 + length : place + 12 + length], "big") == zlib.crc32(
            body
        )
        kinds.append(body[:4])
        place += 12 + length
    assert kinds == [b"IHDR", b"tEXt", b"IDAT", b"IEND"]


@pytest.mark.parametrize(
    ("text", "kind"), [("a cat\nSteps: 2", b"tEXt"), ("Brücke", b"tEXt"), ("東京", b"iTXt")]
)
def test_text_that_fits_latin_1_is_a_text_chunk_as_the_web_ui_writes_it(text, kind):
    png = encode_png(np.zeros((8, 8, 3), np.uint8), {"parameters": text})
    assert png[37:41] == kind
    assert decode(png)[1].text == {"parameters": text}


def test_the_same_picture_gives_the_same_bytes():
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    assert encode_png(pixels) == encode_png(pixels.copy())


def test_a_large_picture_is_packed_in_strips_that_fit_together():
    # Three strips of a mebibyte and a rest; the first grainy, the middle flat.
    pixels = GRAIN.integers(0, 256, (1_040, 1_016, 3), np.uint8)
    pixels[300:800] = 200
    assert np.array_equal(decode(encode_png(pixels))[0], pixels)


def test_flat_areas_take_next_to_nothing_and_grain_no_more_than_itself():
    flat = np.full((512, 512, 3), 77, np.uint8)
    grain = GRAIN.integers(0, 256, (512, 512, 3), np.uint8)
    assert len(encode_png(flat)) < flat.size / 200
    assert len(encode_png(grain)) < grain.size * 1.001
    both = np.concatenate([flat, flat, grain])
    assert len(encode_png(both)) < 1.02 * len(encode_png(grain))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_anything_but_8_bit_rgb_is_refused(pixels):
    with pytest.raises(ValueError, match="8-bit RGB"):
        encode_png(pixels)
