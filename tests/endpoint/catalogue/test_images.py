from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta

import pytest

from endpoint.catalogue import images
from endpoint.core.backends import setting
from endpoint.core.problems import BadArgument

KNOWN = images.read()


@pytest.mark.parametrize("image", KNOWN.values(), ids=KNOWN)
def test_an_entry_is_complete_and_names_its_sources(image):
    assert image.uri or image.lookup
    for version in filter(None, (image.torch, image.diffusers)):
        assert re.fullmatch(r"\d+\.\d+\.(\d+|x)", version)
    accelerator = image.neuron or image.cuda
    assert bool(image.neuron) == (image.cuda is None)
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?", accelerator)
    assert accelerator in image.content
    assert set(image.backends) <= set(setting.NAMES)
    assert image.digest is None or re.fullmatch(r"sha256:[0-9a-f]{64}", image.digest)
    assert images.by_name(image.name) is image
    if image.support_ends:
        assert image.support_source.startswith("https://")
    for trouble in image.trouble:
        assert trouble.source.startswith("https://")
        assert trouble.advice


@pytest.mark.parametrize(
    "image",
    [image for image in KNOWN.values() if "sagemaker" not in image.tag],
    ids=lambda image: image.name,
)
def test_the_tag_tells_what_the_entry_tells(image):
    assert image.torch in image.tag
    sdk = f"sdk{image.neuron}" if image.neuron else f"cu{image.cuda.replace('.', '')}"
    assert sdk in image.tag
    assert image.inference_ami == images.needed_ami(image.tag)


def test_the_default_is_in_the_catalogue():
    assert images.DEFAULT in KNOWN


@pytest.mark.parametrize("name", ["unknown", "huggingface-5.5.4"])
def test_a_name_that_is_not_in_the_catalogue_is_refused(name):
    with pytest.raises(BadArgument, match="neither"):
        images.by_name(name)


@pytest.mark.parametrize(
    ("days", "finding"), [(-1, "ended on"), (0, "ends on"), (89, "ends on"), (90, None)]
)
def test_the_end_of_support_is_reported_from_three_months_before(days, finding):
    today = date(2026, 6, 1)
    image = replace(KNOWN[images.DEFAULT], trouble=(), support_ends=today + timedelta(days=days))
    found = [trouble.finding for trouble in image.known_trouble(today)]
    assert found == ([f"its support {finding} {image.support_ends}"] if finding else [])


@pytest.mark.parametrize("backend", ["hugging-face", "vllm-omni"])
def test_a_backend_has_an_image_of_its_own_that_aws_lists(backend):
    image = images.for_backend(backend)
    assert backend in image.backends
    assert image.lookup


def test_a_container_with_cuda_13_gets_the_machine_image_with_its_driver():
    assert KNOWN["vllm-omni-1.5"].cuda == "13.0"
    assert KNOWN["vllm-omni-1.5"].inference_ami == images.AMI_OF_CUDA_13
