"""Data sets: what is in them, and what cannot be used."""

import pytest

from chalicelib.errors import InvalidRequest, TrainingUnknown
from chalicelib.training.datasets import with_captions
from chalicelib.training_jobs import places
from tests.gateway.training.doubles import OWNER, PNG, Bench

JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 20
WEBP = b"RIFF\x10\0\0\0WEBPVP8 " + b"\0" * 20


@pytest.fixture
def bench():
    return Bench()


def read(bench, **files):
    """Return the data set of these files, whose names have `_` for a dot."""
    identifier = places.new_id()
    prefix = places.dataset(OWNER, identifier)
    for name, body in files.items():
        bench.bucket.objects[prefix + name.lstrip("_").replace("_", ".")] = body
    return bench.service.datasets.read(OWNER, identifier)


def test_captions_are_in_files_or_metadata_and_files_come_first(bench):
    rows = b'{"file_name": "1.png", "text": "no"}\n{"file_name": "2.jpg", "text": "a dog"}\n'
    dataset = read(
        bench,
        _1_png=PNG,
        _1_txt=" a\ncat \n".encode("utf-8-sig"),
        _2_jpg=JPEG,
        _3_webp=WEBP,
        _3_webp_caption=b"a cow",
        _4_png=PNG,
        metadata_jsonl=rows,
        start_json=b"{}",
    )

    assert dataset.pictures == ("1.png", "2.jpg", "3.webp", "4.png")
    assert dataset.captions == {"1.png": "a cat", "2.jpg": "a dog", "3.webp": "a cow"}
    assert dataset.in_files == {"1.png", "3.webp"}
    assert with_captions(dataset, {"4": "an owl", "2.jpg": "an ox"}) == {
        **dataset.captions,
        "2.jpg": "an ox",
        "4.png": "an owl",
    }


@pytest.mark.parametrize("given", [{"5": "x"}, {"1": "x"}, {"../1": "x"}, {"": "x"}])
def test_a_caption_of_no_picture_or_of_one_that_has_a_file_is_refused(bench, given):
    dataset = read(bench, _1_png=PNG, _1_txt=b"a cat")
    with pytest.raises(InvalidRequest):
        with_captions(dataset, given)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"_1_txt": b"a cat"}, "1 to 200 pictures"),
        ({"_1_png": b"GIF89a" + PNG}, "no PNG"),
        ({"_1_png": b"<svg onload=x>"}, "no PNG"),
        ({"_1_png": b""}, "1 to 20,000,000 bytes"),
        ({"_1_png": PNG, "_1_txt": b"\xff\xfe\x00"}, "not UTF-8"),
        ({"_1_png": PNG, "_1_txt": b"x" * 1_001}, "1,000 characters"),
        ({"_1_png": PNG, "_1_txt": b"x" * 16_001}, "16,000 bytes"),
        ({"_1_png": PNG, "_1_txt": b" \n"}, "must not be empty"),
        ({"_1_png": PNG, "metadata_jsonl": b"{}"}, "line 1"),
        ({"_1_png": PNG, "metadata_jsonl": b"[" * 100_000}, "line 1"),
        ({f"_{number}_png": PNG for number in range(201)}, "1 to 200 pictures"),
        ({"_1_png": PNG} | {f"_{number}_md": b"x" for number in range(1_001)}, "pictures"),
    ],
)
def test_what_the_trainer_could_not_use_is_refused_before_it_is_paid(bench, files, words):
    with pytest.raises(InvalidRequest, match=words) as raised:
        read(bench, **files)

    assert raised.value.field == "dataset"


def test_a_digest_is_that_of_all_files_but_the_marker(bench):
    identifier = bench.dataset()
    key = places.dataset(OWNER, identifier)
    first = bench.service.datasets.read(OWNER, identifier).digest
    bench.bucket.objects[f"{key}start.json"] = b"{}"
    assert bench.service.datasets.digest(OWNER, identifier) == first
    written = bench.service.datasets.caption(OWNER, identifier, {"0001.png": "a cat"})

    assert written == bench.service.datasets.digest(OWNER, identifier) != first


def test_an_expired_data_set_is_unknown(bench):
    with pytest.raises(TrainingUnknown):
        bench.service.datasets.read(OWNER, places.new_id())
    assert bench.service.datasets.digest(OWNER, places.new_id()) is None
