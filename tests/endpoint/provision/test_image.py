from __future__ import annotations

import sys

import pytest

from endpoint.core.problems import BadArgument, ScriptError
from endpoint.provision.image import choose_image


def test_an_image_that_is_named_is_taken():
    uri = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/mine/serving:1.0"
    image = choose_image(uri, "eu-central-1", "ml.g5.xlarge")
    assert (image.account, image.repository, image.tag) == ("123456789012", "mine/serving", "1.0")
    assert image.repository_arn("aws") == (
        "arn:aws:ecr:eu-central-1:123456789012:repository/mine/serving"
    )


def test_an_image_can_be_named_by_its_digest():
    uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving@sha256:" + "a" * 64
    assert choose_image(uri, "us-east-1", "ml.g5.xlarge").digest == "sha256:" + "a" * 64


@pytest.mark.parametrize("uri", ["nginx:latest", "x.dkr.ecr.us-east-1.amazonaws.com/a:b", "",
                                 "123456789012.dkr.ecr.us-east-1.amazonaws.com/a"])  # fmt: skip
def test_a_uri_outside_ecr_is_refused(uri):
    with pytest.raises(BadArgument, match="not the URI"):
        choose_image(uri or "-", "us-east-1", "ml.g5.xlarge")


def test_without_the_sdks_core_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sagemaker.core", None)
    with pytest.raises(ScriptError, match="not installed") as caught:
        choose_image(None, "us-east-1", "ml.g5.xlarge")
    assert "requirements-deploy.txt" in caught.value.advice
    assert "--image" in caught.value.advice


def test_the_default_is_aws_own_image_with_the_torch_that_works():
    pytest.importorskip("sagemaker.core", reason="endpoint/requirements-deploy.txt")
    image = choose_image(None, "eu-south-1", "ml.g4dn.xlarge")
    assert image.account == "692866216735"
    assert image.tag == "2.6.0-transformers5.5.3-gpu-py312-cu124-ubuntu22.04"


def test_a_region_without_an_image_is_refused():
    pytest.importorskip("sagemaker.core", reason="endpoint/requirements-deploy.txt")
    with pytest.raises(BadArgument, match="no serving image for mars-1"):
        choose_image(None, "mars-1", "ml.g4dn.xlarge")
