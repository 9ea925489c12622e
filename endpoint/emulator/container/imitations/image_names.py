"""What an image's address says: whose container it is, and on which hosts it starts."""

from __future__ import annotations

import re

# <account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>, or public.ecr.aws/...
_IMAGE = re.compile(r"(?:.*/)?(?P<repository>[^/:@]+)(?::(?P<tag>[^/@]+))?(?:@.*)?")
# aws/deep-learning-containers, docs/vllm-omni/deployment/sagemaker.md: "the default SageMaker host
# AMI has incompatible NVIDIA drivers for CUDA 13.0 images". Its example has the first of these; the
# second has the newest driver of all.
_AMIS_OF_CUDA_13 = {
    "al2-ami-sagemaker-inference-gpu-3-1",
    "al2023-ami-sagemaker-inference-gpu-4-1",
}


def repository_and_tag(image: str) -> tuple[str, str]:
    """Return the last part of an image's repository, and its tag; either can be empty."""
    parts = _IMAGE.fullmatch(image)
    return (parts["repository"], parts["tag"] or "") if parts else ("", "")


def is_vllm_omni(image: str) -> bool:
    """Whether an image is one of AWS's with vLLM-Omni."""
    repository, tag = repository_and_tag(image)
    return repository == "huggingface-vllm-omni" or (
        repository == "vllm" and tag.startswith("omni-sagemaker-")
    )


def starts_on(image: str, inference_ami: str | None) -> bool:
    """Whether a container of the image starts on SageMaker's hosts of that InferenceAmiVersion."""
    # AWS's tags of vLLM-Omni do not name CUDA's version, other tags do.
    needs_cuda_13 = is_vllm_omni(image) or re.search(
        r"(?:^|-)cu13\d(?:-|$)", repository_and_tag(image)[1]
    )
    return not needs_cuda_13 or inference_ami in _AMIS_OF_CUDA_13
