"""What a picture's file says of how it was made."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from chalicelib.dialects.infotext import composed, infotext, setting, size_of
from chalicelib.generation import GenerationRequest
from easel.output.png import encode_png

REQUEST = GenerationRequest(prompt="a cat", seed=7, model="sd")
TEXT = 'a cat 猫\nNegative prompt: a dog\nSteps: 20, Sampler: DPM++ 2M, Size: 8x16, Model: "a, b"'


def png(**texts):
    info = PngImagePlugin.PngInfo()
    for keyword, (add, text) in texts.items():
        getattr(info, add)(keyword, text)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 16)).save(buffer, "png", pnginfo=info)
    return buffer.getvalue()


def test_the_text_in_the_file_is_what_counts():
    assert infotext(png(parameters=("add_itxt", TEXT)), REQUEST) == TEXT


def test_the_web_uis_own_files_are_read_as_well():
    assert infotext(png(parameters=("add_text", "café\nSteps: 3")), REQUEST) == "café\nSteps: 3"


def test_what_the_containers_encoder_writes_is_read():
    picture = encode_png(np.zeros((16, 8, 3), np.uint8), {"parameters": TEXT, "easel": "{}"})

    assert infotext(picture, REQUEST) == TEXT
    assert size_of(picture) == (8, 16)


@pytest.mark.parametrize("picture", [b"", b"\xff\xd8\xff\xd9", png(other=("add_text", "x"))])
def test_a_file_that_says_nothing_leaves_what_was_asked_for(picture):
    assert infotext(picture, REQUEST) == "a cat\nSeed: 7, Model: sd"


def test_a_file_that_ends_early_or_has_wrong_lengths_has_no_text():
    whole = png(parameters=("add_text", TEXT[:5]))
    lying = whole[:8] + struct.pack(">I", 2**31 - 1) + whole[12:]

    for picture in (*(whole[:end] for end in range(40)), lying):
        assert infotext(picture, REQUEST) == composed(REQUEST)


def test_a_compressed_text_is_not_read():
    squeezed = png(parameters=("add_text", "x"))
    text = b"parameters\0\1\0\0\0" + zlib.compress(b"Steps: 20")
    chunk = struct.pack(">I", len(text)) + b"iTXt" + text + bytes(4)
    end_of_header = 8 + 25

    picture = squeezed[:end_of_header] + chunk + squeezed[end_of_header:]
    assert infotext(picture, REQUEST) == "x"


def test_the_text_has_every_field_of_the_request():
    request = GenerationRequest(
        prompt="a cat",
        negative_prompt="a dog",
        seed=7,
        steps=20,
        guidance_scale=7.5,
        width=512,
        height=768,
        lora="pixel:0.5",
    )

    assert composed(request) == (
        "a cat <lora:pixel:0.5>\nNegative prompt: a dog\n"
        "Steps: 20, CFG scale: 7.5, Seed: 7, Size: 512x768"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("Steps", "20"), ("Sampler", "DPM++ 2M"), ("Model", "a, b"), ("Seed", None), ("Step", None)],
)
def test_one_value_is_found_by_its_name(name, value):
    assert setting(TEXT, name) == value


def test_a_prompt_cannot_pretend_to_be_a_value():
    assert setting("Steps: 99\nNegative prompt: Steps: 98\nSteps: 20", "Steps") == "20"
