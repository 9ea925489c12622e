import io
import json

import numpy as np
import pytest
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags
from sd_parsers import ParserManager

from easel.generator import GeneratedImage
from easel.output.metadata import Provenance
from easel.pipelines.schedulers import sampler_name, schedule_type
from easel.serving.response import encode_file
from generation import GenerationRequest

PROMPTS = [
    "a photo of an astronaut riding a horse on mars",
    "eine Brücke im Nebel, Öl auf Leinwand",
    "夜の東京 🌃, 雨",
    "кошка: портрет, (masterpiece:1.2), [blurry|sharp]",
    'quotes "and" \\ backslashes, {"json": true}, <lora:x:1>',
]
SDE = {"algorithm_type": "sde-dpmsolver++"}


def make_picture(prompt, kind="png", *, metadata=True, **fields):
    request = GenerationRequest(
        prompt=prompt,
        seed=4_294_967_295,
        steps=20,
        guidance_scale=7.5,
        width=64,
        height=72,
        format=kind,
        **fields,
    )
    provenance = Provenance(request, "DPM++ 2M", "Karras", "tiny", "diffusers 0.42.1")
    return GeneratedImage(np.zeros((72, 64, 3), np.uint8), provenance, metadata)


_KEPT = []


def read_by_others(file):
    """Return what sd-parsers, which other programs use, finds in a file."""
    image = Image.open(io.BytesIO(file))
    # sd-parsers remembers the last picture by its address, which another may have by then.
    _KEPT.append(image)
    info = ParserManager().parse(image)
    assert info is not None
    return info


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_sd_parsers_reads_prompt_and_parameters(kind, prompt):
    info = read_by_others(encode_file(make_picture(prompt, kind, negative_prompt="顔, bad hands")))
    (sampler,) = info.samplers
    assert [prompt_info.value for prompt_info in sampler.prompts] == [prompt]
    assert [prompt_info.value for prompt_info in sampler.negative_prompts] == ["顔, bad hands"]
    assert sampler.name == "DPM++ 2M"
    assert sampler.model.name == "tiny"
    assert sampler.parameters == {
        "steps": "20",
        "scheduler": "Karras",
        "cfg_scale": "7.5",
        "seed": "4294967295",
    }
    assert info.metadata == {"Size": "64x72", "Version": "diffusers 0.42.1"}


def test_the_text_has_the_form_that_the_web_ui_gives_it():
    picture = make_picture("a cat", negative_prompt="a dog")
    assert picture.provenance.parameters() == (
        "a cat\nNegative prompt: a dog\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, "
        "CFG scale: 7.5, Seed: 4294967295, Size: 64x72, Model: tiny, Version: diffusers 0.42.1"
    )


def test_adapters_and_the_refiner_are_named_as_the_web_ui_does():
    request = GenerationRequest(prompt="a cat", seed=1, width=64, height=64, lora="b:0.5,a")
    text = Provenance(request, "Euler", None, None, "diffusers", 0.8).parameters()
    assert text == (
        "a cat <lora:a:1> <lora:b:0.5>\n"
        "Sampler: Euler, Seed: 1, Size: 64x64, Refiner switch at: 0.8, Version: diffusers"
    )


def test_what_is_not_known_is_left_out():
    request = GenerationRequest(prompt="a cat", seed=1, width=64, height=64)
    text = Provenance(request, "Euler", None, None, "diffusers").parameters()
    assert text == "a cat\nSampler: Euler, Seed: 1, Size: 64x64, Version: diffusers"


def test_a_name_with_commas_is_quoted_as_the_web_ui_does():
    request = GenerationRequest(prompt="a", seed=1, width=64, height=64)
    text = Provenance(request, "Euler", None, "tiny, v: 2", "diffusers").parameters()
    assert 'Model: "tiny, v: 2",' in text


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_request_can_be_read_back_whole(prompt):
    for kind in ("png", "webp", "jpeg"):
        picture = make_picture(prompt, kind)
        with Image.open(io.BytesIO(encode_file(picture))) as image:
            text = image.text["easel"] if kind == "png" else image.getexif()[0x010E]
        assert GenerationRequest.from_dict(json.loads(text)) == picture.provenance.request


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_nothing_is_written_when_it_is_turned_off(kind):
    file = encode_file(make_picture("a secret", kind, metadata=False))
    assert b"secret" not in file
    assert "secret".encode("utf-16-be") not in file
    assert ParserManager().parse(io.BytesIO(file)) is None


@pytest.mark.parametrize(
    ("scheduler", "config", "name", "schedule"),
    [
        ("EulerDiscreteScheduler", {}, "Euler", None),
        ("EulerAncestralDiscreteScheduler", {}, "Euler a", None),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, "DPM++ 2M", "Karras"),
        ("DPMSolverMultistepScheduler", SDE, "DPM++ 2M SDE", None),
        ("UniPCMultistepScheduler", {"use_beta_sigmas": True}, "UniPC", "Beta"),
        ("EDMEulerScheduler", {}, "EDMEuler", None),
    ],
)
def test_schedulers_have_the_names_that_the_web_ui_knows(scheduler, config, name, schedule):
    assert (sampler_name(scheduler, config), schedule_type(config)) == (name, schedule)


@pytest.mark.parametrize("prompt", [*PROMPTS, "x" * 1_000])
def test_the_user_comment_has_the_type_of_the_standard(prompt):
    request = GenerationRequest(prompt=prompt, seed=1, width=64, height=64)
    provenance = Provenance(request, "Euler", None, "tiny", "diffusers")
    block = Image.Exif()
    block.load(provenance.exif())
    raw = provenance.exif()[6:]
    directory = directory_at(raw, directory_at(raw, None)[ExifTags.IFD.Exif])

    assert directory.tagtype[0x9286] == TiffTags.UNDEFINED
    assert (
        block.get_ifd(ExifTags.IFD.Exif)[0x9286][8:].decode("utf-16-be") == provenance.parameters()
    )


def directory_at(raw, place):
    directory = TiffImagePlugin.ImageFileDirectory_v2(raw[:8])
    stream = io.BytesIO(raw)
    stream.seek(directory.next if place is None else place)
    directory.load(stream)
    return directory
