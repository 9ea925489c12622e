from __future__ import annotations

import json

import pytest

from endpoint import create_endpoint
from endpoint.catalogue import images
from endpoint.emulator.moto_ import service_quotas
from tests.endpoint.doubles import create, only_config
from tests.endpoint.world import IMAGE, contents

# By their URIs, which take no lookup in the SageMaker SDK.
HUGGING_FACE, OLD_HUGGING_FACE = (
    f"763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-pytorch-inference:{image.tag}"
    for image in (images.read()[name] for name in (images.DEFAULT, "huggingface-4.51.3"))
)


def test_an_endpoint_is_created_and_its_price_reported(world, capsys):
    assert create(world) == 0
    output = capsys.readouterr()
    assert "easel-main-sd serves Stable Diffusion 1.5" in output.out
    assert "USD per hour" in output.out
    assert "creating (1 min 00 s)" in output.err


# --- Refusals before anything is changed -------------------------------------------------------


def test_nothing_is_changed_without_a_confirmation(world, capsys):
    assert world.run(create_endpoint.main, "--image", IMAGE) == 1
    assert "Pass --yes" in capsys.readouterr().err
    assert contents(world) == []


def test_a_quota_of_zero_is_detected_before_anything_is_created(world, capsys, monkeypatch):
    types = ("ml.g4dn.xlarge", "ml.g6.xlarge", "ml.g5.xlarge")
    monkeypatch.setattr(service_quotas, "QUOTAS", dict.fromkeys(types, 0.0))
    assert create(world) == 1
    output = capsys.readouterr().err
    assert "quota is 0" in output
    assert "aws service-quotas request-service-quota-increase" in output
    assert "nothing costs anything" in output
    assert contents(world) == []


def test_a_type_without_quota_is_passed_over(world, monkeypatch):
    monkeypatch.setattr(service_quotas, "QUOTAS", {"ml.g4dn.xlarge": 0.0, "ml.g6.xlarge": 0.0})
    assert create(world) == 0
    assert only_config(world)["ProductionVariants"][0]["InstanceType"] == "ml.g5.xlarge"


def test_unreadable_quotas_prevent_nothing(world, capsys):
    world.fail("ListServiceQuotas", "AccessDeniedException")
    assert create(world) == 0
    assert "not checked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nothing"], "there is no model 'nothing'"),
        (["--private-network"], "Add --weights s3"),
        (["--budget", "20"], "--budget requires --email"),
        (["--name", "Not-A-Name"], "cannot be a deployment's name"),
    ],
)
def test_unusable_options_are_refused_with_advice(world, capsys, arguments, message):
    assert world.run(create_endpoint.main, "--image", IMAGE, "--yes", *arguments) == 2
    assert message in capsys.readouterr().err
    assert contents(world) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quantise", "gguf"], "no file for gguf is known of sd; it has none, fp8, int8"),
        (
            ["--model", "ernie-image-turbo", "--instance-type", "ml.g4dn.xlarge"],
            "ERNIE-Image-Turbo does not fit on ml.g4dn.xlarge: 26.0 of 16 GB",
        ),
        (
            ["--model", "ernie-image-turbo", "--instance-type", "ml.g6.2xlarge"],
            "ERNIE-Image-Turbo does not fit on ml.g6.2xlarge: 26.0 of 24 GB",
        ),
        (
            ["--model", "z-image", "--instance-type", "ml.g4dn.xlarge", "--quantise", "fp8"],
            "--quantise fp8: NVIDIA T4 of ml.g4dn.xlarge lacks bf16",
        ),
        (
            ["--instance-type", "ml.inf2.xlarge", "--quantise", "fp8", "--weights", "s3"],
            "--quantise fp8 has no effect on a compiled model",
        ),
        (
            ["--model", "flux2-klein", "--quantise", "gguf", "--image", HUGGING_FACE],
            "lacks the package gguf, which --quantise gguf needs",
        ),
        (
            ["--model", "flux2-klein", "--quantise", "nunchaku_lite", "--image", HUGGING_FACE],
            "Pass an image with kernels: --image URI",
        ),
        (
            ["--model", "flux3-klein", "--image", HUGGING_FACE],
            "contains diffusers 0.38.0, and FLUX.3 Image Klein needs 0.42",
        ),
        (
            ["--model", "flux2-klein", "--image", OLD_HUGGING_FACE],
            "contains diffusers 0.33.1, and FLUX.2 klein 4B needs 0.37",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_created(world, capsys, arguments, message):
    assert create(world, *arguments) == 2
    assert message in capsys.readouterr().err
    assert contents(world) == []


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "x", ""])
def test_a_number_that_cannot_be_is_refused_before_anything_is_asked(world, capsys, number):
    with pytest.raises(SystemExit, match="2"):
        world.run(create_endpoint.main, "--image", IMAGE, "--most-instances", number)
    assert "--most-instances" in capsys.readouterr().err
    assert contents(world) == []


# --- Output ------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_calls_and_changes_nothing(world, capsys):
    assert create(world, "--dry-run", model="sdxl") == 0
    output = capsys.readouterr().err
    for call in (
        "cloudformation.CreateStack",
        "s3.PutObject",
        "sagemaker.CreateModel",
        "sagemaker.CreateEndpoint ",
        "application-autoscaling.PutScalingPolicy",
    ):
        assert f"would call {call}" in output
    assert contents(world) == []


def test_json_goes_to_standard_output_and_nothing_else_does(world, capsys):
    assert create(world, "--json") == 0
    assert json.loads(capsys.readouterr().out)["endpoint"] == "easel-main-sd"
