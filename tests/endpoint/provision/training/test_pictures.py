from __future__ import annotations

import pytest
from PIL import Image, ImageDraw

from endpoint.core.problems import BadArgument
from endpoint.core.training_jobs.job import Job
from endpoint.provision.training import pictures
from endpoint.provision.training.pictures import contact_sheet, examine
from model_package.training import pictures as trainers

JOB = Job(name="x", instance_prompt="a thing", class_prompt="things")


def draw(path, number=0, size=(512, 512), mode="RGB", **more):
    image = Image.new("RGB", size, "white")
    width, height = size
    ImageDraw.Draw(image).rectangle(
        (width * number // 9, height // 4, width * (number + 3) // 12, height), fill="navy"
    )
    image.convert(mode).save(path, **more)


def notes(folder, **more):
    return " ".join(examine(folder, JOB, 512, **more).notes)


def test_the_limits_are_the_trainers():
    assert pictures.FORMATS == trainers.FORMATS
    assert pictures.MOST_PIXELS == trainers.MOST_PIXELS
    assert pictures.LARGEST_FILE == trainers.LARGEST_FILE


def test_equal_files_and_similar_pictures_are_named(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    draw(tmp_path / "c.jpg", quality=60)
    draw(tmp_path / "d.png", number=6)
    said = notes(tmp_path)

    assert "b.png is the same file as a.png." in said
    assert "c.jpg looks nearly like a.png." in said
    assert "d.png" not in said


def test_small_and_few_pictures_are_named(tmp_path):
    draw(tmp_path / "a.png", size=(200, 200))
    said = notes(tmp_path)

    assert "Much smaller than 512 x 512, so that they become blurred: a.png (200 x 200)." in said
    assert "1 pictures are few" in said
    assert "few" not in notes(tmp_path, of_class=True)


def test_a_rotated_photo_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    draw(tmp_path / "a.jpg", size=(640, 480), exif=exif)
    (one,) = examine(tmp_path, JOB, 512).pictures

    assert (one.width, one.height) == (480, 640)
    assert one.thumbnail.height > one.thumbnail.width


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_each_mode_has_a_thumbnail(tmp_path, mode):
    image = Image.new("L", (512, 512), 40)
    if mode == "I;16":
        Image.new("I;16", (512, 512), 257 * 40).save(tmp_path / "a.png")
    else:
        image.convert(mode).save(tmp_path / "a.png")
    (one,) = examine(tmp_path, JOB, 512).pictures

    assert one.problem == ""
    assert one.thumbnail.getpixel((9, 9)) == (40, 40, 40)


def test_transparent_pixels_are_white(tmp_path):
    Image.new("RGBA", (512, 512), (255, 0, 0, 0)).save(tmp_path / "a.png")
    (one,) = examine(tmp_path, JOB, 512).pictures

    assert one.thumbnail.getpixel((9, 9)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "cannot be decoded"),
        (b"GIF89a", "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "cannot be decoded"),
    ],
)
def test_what_is_no_picture_is_a_problem_with_its_name(tmp_path, content, problem):
    (tmp_path / "a.png").write_bytes(content)
    (one,) = examine(tmp_path, JOB, 512).problems

    assert one.startswith(f"a.png {problem}")


def test_a_truncated_photo_is_a_problem(tmp_path):
    draw(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])

    assert examine(tmp_path, JOB, 512).problems


def test_too_many_pixels_are_not_decoded(tmp_path):
    Image.new("1", (9_000, 9_000)).save(tmp_path / "a.png")
    (one,) = examine(tmp_path, JOB, 512).problems

    assert one == "a.png has more than 40 million pixels"


def test_no_folder_and_no_pictures_are_refused(tmp_path):
    with pytest.raises(BadArgument, match="is no folder"):
        examine(tmp_path / "nowhere", JOB, 512)
    with pytest.raises(BadArgument, match="has no pictures"):
        examine(tmp_path, JOB, 512)


def test_the_contact_sheet_has_a_tile_for_each_and_marks_problems(tmp_path):
    for number in range(7):
        draw(tmp_path / f"日本 {number}.png", number)
    (tmp_path / "z.png").write_bytes(b"x")
    sheet = contact_sheet(examine(tmp_path, JOB, 512))

    assert sheet.width == 6 * 208
    assert sheet.height == 2 * 250
    red = sum(count for count, colour in sheet.getcolors(1 << 20) if colour == (255, 0, 0))
    assert red > 500
