"""Which container is imitated, and where one starts."""

from __future__ import annotations

import pytest

from endpoint.emulator.container.imitations.choice import Definition, Imitations
from endpoint.emulator.container.imitations.image_names import starts_on
from tests.endpoint.emulator.container.imitations.doubles import Images

ECR = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
VLLM = f"{ECR}/vllm:omni-sagemaker-cuda-v1.5"
TOOLKIT = f"{ECR}/huggingface-pytorch-inference:2.6.0-transformers5.5.3-gpu-py312-cu124-ubuntu22.04"
TASK = {"HF_MODEL_ID": "a/b", "HF_TASK": "text-to-image"}
JUMPSTART = "s3://jumpstart-cache-prod-us-east-1/stabilityai-infer/infer-prepack-sd.tar.gz"


@pytest.mark.parametrize(
    ("image", "environment", "model_data", "kind"),
    [
        (VLLM, {}, None, "VllmOmni"),
        ("public.ecr.aws/deep-learning-containers/vllm:omni-sagemaker-cuda", {}, None, "VllmOmni"),
        (f"{ECR}/huggingface-vllm-omni:0.20.0-gpu-py312-cu130", {}, None, "VllmOmni"),
        (f"{ECR}/vllm:0.26.0-gpu-py312-cu130-sagemaker", {}, None, None),
        (TOOLKIT, TASK, None, "HuggingFace"),
        (TOOLKIT, {**TASK, "SAGEMAKER_PROGRAM": "inference.py"}, None, None),
        (TOOLKIT, {"HF_TASK": "summarization"}, None, None),
        (TOOLKIT, {"SAGEMAKER_PROGRAM": "inference.py"}, JUMPSTART, "JumpStart"),
        (TOOLKIT, {"SAGEMAKER_PROGRAM": "inference.py"}, "s3://mine/model.tar.gz", None),
        (f"{ECR}/djl-inference:0.30.0", {}, JUMPSTART, None),
        ("emulated", {}, None, None),
        ("", {}, None, None),
    ],
)
def test_the_model_decides_on_the_imitation(image, environment, model_data, kind):
    made = Imitations(Images()).find("a", Definition(image, environment, model_data))
    assert (type(made).__name__ if made else None) == kind


def test_nothing_is_imitated_without_images():
    assert Imitations().find("a", Definition(VLLM, {})) is None


def test_a_container_is_kept_until_its_model_changes():
    imitations = Imitations(Images())
    first = imitations.find("a", Definition(VLLM, {}))
    assert imitations.find("a", Definition(VLLM, {})) is first
    assert imitations.find("a", Definition(VLLM, {"SM_VLLM_MODEL": "b"})) is not first
    imitations.images_from = Images()
    assert imitations.find("a", Definition(VLLM, {})) is not first


@pytest.mark.parametrize(
    ("image", "inference_ami", "starts"),
    [
        (VLLM, None, False),
        (VLLM, "al2-ami-sagemaker-inference-gpu-2", False),
        (VLLM, "al2-ami-sagemaker-inference-gpu-2-1", False),
        (VLLM, "al2-ami-sagemaker-inference-gpu-3-1", True),
        (VLLM, "al2023-ami-sagemaker-inference-gpu-4-1", True),
        (f"{ECR}/pytorch-inference:2.11.0-gpu-py312-cu130-ubuntu22.04-sagemaker", None, False),
        (TOOLKIT, None, True),
        ("emulated", None, True),
    ],
)
def test_an_image_of_cuda_13_needs_a_newer_host(image, inference_ami, starts):
    assert starts_on(image, inference_ami) is starts
