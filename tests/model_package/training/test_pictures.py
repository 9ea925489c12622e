import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from model_package.training import pictures
from model_package.training.pictures import PictureUnusable, decode_all


def decode(path):
    (decoded,) = decode_all([path])
    return decoded


def test_a_picture_is_turned_upright(tmp_path):
    image = Image.new("RGB", (8, 4), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)

    assert decode(tmp_path / "a.jpg").image.size == (4, 8)


def test_16_bit_grey_keeps_its_brightness(tmp_path):
    Image.fromarray(np.full((2, 2), 40_000, np.uint16)).save(tmp_path / "a.png")

    assert decode(tmp_path / "a.png").image.getpixel((0, 0)) == (156, 156, 156)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_become_white(tmp_path, mode):
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 0, 255))
    image.convert(mode).save(tmp_path / "a.png")

    picture = decode(tmp_path / "a.png").image
    assert picture.mode == "RGB"
    assert picture.getpixel((0, 0)) == (0, 0, 0)
    assert picture.getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_other_colour_spaces_are_converted(tmp_path, mode):
    Image.new("RGB", (8, 8), "white").convert(mode).save(tmp_path / "a.jpg")

    assert decode(tmp_path / "a.jpg").image.getpixel((0, 0)) == (255, 255, 255)


def test_the_first_frame_of_an_animation_is_used_with_a_note(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue", "green")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)

    decoded = decode(tmp_path / "a.webp")
    assert decoded.image.getpixel((0, 0)) == (255, 0, 0) or decoded.image.getpixel((0, 0))[0] > 250
    assert decoded.note == "only the first of 3 frames is used"


def png(width, height):
    def chunk(kind, data):
        content = kind + data
        return struct.pack(">I", len(data)) + content + struct.pack(">I", zlib.crc32(content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be decoded"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "cannot be decoded"),
        (b"GIF89a" + bytes(50), "cannot be decoded"),
        (png(9_000, 9_000), "40 million pixels"),
        (png(60_000, 60_000), "40 million pixels"),
        (png(64, 64), "cannot be decoded"),  # truncated
    ],
)
def test_a_hostile_file_is_named_and_refused(tmp_path, content, reason):
    (tmp_path / "bad.png").write_bytes(content)

    with pytest.raises(PictureUnusable, match=rf"^bad\.png .*{reason}"):
        decode(tmp_path / "bad.png")


@pytest.mark.parametrize(
    "script",
    [
        "raise SystemExit(1)",
        """print('{"width": 99, "height": 99, "note": ""}')""",  # and no pixels
    ],
)
def test_a_child_that_dies_is_reported_for_its_picture(tmp_path, monkeypatch, script):
    (tmp_path / "child.py").write_text(script)
    monkeypatch.setattr(pictures, "__file__", str(tmp_path / "child.py"))

    with pytest.raises(PictureUnusable, match=r"large\.webp takes more memory or time"):
        decode(tmp_path / "large.webp")
