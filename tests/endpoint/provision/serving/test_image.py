from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from endpoint.aws.registry import Image
from endpoint.catalogue import images
from endpoint.core.naming import Deployment
from endpoint.core.problems import BadArgument, ScriptError
from endpoint.provision.serving import image_source
from endpoint.provision.serving.image import inference_ami, known_image, named_image

AWS = "763104351884.dkr.ecr.us-east-1.amazonaws.com"


def test_an_image_that_is_named_is_taken():
    uri = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/mine/serving:1.0"
    image = named_image(uri, "eu-central-1", "ml.g5.xlarge")
    assert (image.account, image.repository, image.tag) == ("123456789012", "mine/serving", "1.0")
    assert image.repository_arn("aws") == (
        "arn:aws:ecr:eu-central-1:123456789012:repository/mine/serving"
    )


def test_an_image_can_be_named_by_its_digest():
    uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving@sha256:" + "a" * 64
    assert named_image(uri, "us-east-1", "ml.g5.xlarge").digest == "sha256:" + "a" * 64


@pytest.mark.parametrize("uri", ["nginx:latest", "x.dkr.ecr.us-east-1.amazonaws.com/a:b", "/",
                                 "123456789012.dkr.ecr.us-east-1.amazonaws.com/a"])  # fmt: skip
def test_a_uri_outside_ecr_is_refused(uri):
    with pytest.raises(BadArgument, match="not the URI"):
        named_image(uri, "us-east-1", "ml.g5.xlarge")


def test_without_the_sdks_core_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sagemaker.core", None)
    with pytest.raises(ScriptError, match="not installed") as caught:
        named_image("aws", "us-east-1", "ml.g5.xlarge")
    assert "requirements-deploy.txt" in caught.value.advice
    assert "--image" in caught.value.advice


def test_aws_is_aws_own_image_with_the_torch_that_works():
    pytest.importorskip("sagemaker.core", reason="endpoint/requirements-deploy.txt")
    image = named_image("aws", "eu-south-1", "ml.g4dn.xlarge")
    assert image.account == "692866216735"
    assert image.tag == "2.6.0-transformers5.5.3-gpu-py312-cu124-ubuntu22.04"


def test_inferentia_gets_the_image_with_its_compiler():
    pytest.importorskip("sagemaker.core", reason="endpoint/requirements-deploy.txt")
    image = named_image(images.INFERENTIA, "us-east-1", "ml.inf2.xlarge")
    known = known_image(image)
    assert known is not None
    assert (image.account, image.tag, known.neuron) == ("763104351884", known.tag, "2.26.0")


def test_a_region_without_an_image_is_refused():
    pytest.importorskip("sagemaker.core", reason="endpoint/requirements-deploy.txt")
    with pytest.raises(BadArgument, match="no inference image for mars-1"):
        named_image("aws", "mars-1", "ml.g4dn.xlarge")


def test_a_name_that_the_catalogue_does_not_have_is_refused_with_those_it_has():
    with pytest.raises(BadArgument, match="neither a known image") as caught:
        named_image("huggingface-9", "us-east-1", "ml.g5.xlarge")
    assert images.DEFAULT in caught.value.advice


def _catalogue(monkeypatch, **changes):
    known = replace(images.read()[images.DEFAULT], name="own", uri=f"{AWS}/own:1", **changes)
    monkeypatch.setattr(images, "_read", lambda: (known,))


def test_an_image_is_found_by_its_name(monkeypatch):
    _catalogue(monkeypatch)
    assert named_image("own", "us-east-1", "ml.g5.xlarge").uri == f"{AWS}/own:1"


def test_a_digest_in_the_catalogue_pins_the_image(monkeypatch):
    digest = "sha256:" + "a" * 64
    _catalogue(monkeypatch, repository="own", digest=digest)
    image = named_image("own", "us-east-1", "ml.g5.xlarge")
    assert image.uri == f"{AWS}/own@{digest}"
    # What is known about it is found by the digest as well.
    assert known_image(image) is images.read()["own"]


def test_what_is_known_about_an_image_is_found_by_its_uri_in_any_registry():
    known = images.read()[images.DEFAULT]
    image = Image.parse(
        f"692866216735.dkr.ecr.eu-south-1.amazonaws.com/{known.repository}:{known.tag}"
    )
    assert known_image(image) is known
    assert known_image(Image.parse(f"{AWS}/mine:1")) is None


@pytest.mark.parametrize(
    ("tag", "ami"),
    [
        ("0.38.0-lmi29.0.0-cu130", images.AMI_OF_CUDA_13),
        ("2.8.0-gpu-py312-cu129-ubuntu22.04", images.AMI_OF_NEWER_CUDA),
        ("2.6.0-gpu-py312-cu128-ubuntu22.04", None),
        ("2.6.0-gpu-py312-cu124-ubuntu22.04", None),
        ("2.8.0-transformers4.55.4-neuronx-py310-sdk2.26.0-ubuntu22.04", images.AMI_OF_NEURON),
        ("1.0", None),
    ],
)
def test_newer_versions_of_cuda_require_another_machine_image(tag, ami):
    image = Image.parse(f"{AWS}/mine:{tag}")
    context: Any = SimpleNamespace(deployment=Deployment("main", "123456789012", "us-east-1"))
    assert inference_ami(context, image, None) == ami
    assert inference_ami(context, image, "al2-own") == "al2-own"


def test_easels_own_image_requires_the_machine_image_of_its_cuda():
    lock = image_source.FOLDER / "server" / "requirements-cuda.lock"
    context: Any = SimpleNamespace(deployment=Deployment("main", "123456789012", "us-east-1"))
    uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/easel-main"
    for image in (f"{uri}:1", f"{uri}@sha256:{'a' * 64}"):
        assert inference_ami(context, Image.parse(image), None) == images.AMI_OF_CUDA_13
    # One of another deployment is another program's.
    assert inference_ami(context, Image.parse(f"{uri}2:1"), None) is None
    if lock.exists():
        assert "nvidia-cuda-runtime==13." in lock.read_text("utf-8")
