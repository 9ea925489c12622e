"""Models with the containers of other backends, and what makes their images in tests."""

from __future__ import annotations

import json

from PIL import Image

from endpoint.emulator.container.imitations.openai_images import OpenAiImages

JSON = "application/json"
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
ECR = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
TOOLKIT = f"{ECR}/huggingface-pytorch-inference:2.6.0-transformers5.5.3-gpu-py312-cu124-ubuntu22.04"
KLEIN = {"SM_VLLM_MODEL": "black-forest-labs/FLUX.2-klein-4B"}
VLLM_OMNI = {"Image": f"{ECR}/vllm:omni-sagemaker-cuda-v1.5", "Environment": KLEIN}
HOST = {"InferenceAmiVersion": "al2023-ami-sagemaker-inference-gpu-4-1"}
JUMPSTART = "s3://jumpstart-cache-prod-us-east-1/stabilityai-infer/prepack/sd.tar.gz"
GATED = "s3://jumpstart-private-cache-prod-us-east-1/stabilityai-infer/prepack/sd.tar.gz"
ACCEPTS = ["seed", "steps", "guidance_scale", "negative_prompt", "format"]
# The same in the words of the server, which need not be told of formats.
SERVER_ACCEPTS = ["seed", "num_inference_steps", "guidance_scale", "negative_prompt"]
ADAPTERS = {"pixel": "/opt/ml/model/loras/pixel.safetensors"}
# The backend's setting in the gateway, and its model in SageMaker.
CONTAINERS = {
    "vllm-omni": VLLM_OMNI,
    "hugging-face": {
        "Image": TOOLKIT,
        "Environment": {"HF_MODEL_ID": "stabilityai/sd-turbo", "HF_TASK": "text-to-image"},
    },
    "jumpstart": {
        "Image": TOOLKIT,
        "Environment": {"SAGEMAKER_PROGRAM": "inference.py"},
        "ModelDataUrl": JUMPSTART,
    },
    "openai-images": {"Image": f"{ECR}/mine:latest", "Environment": {}},
}
SETTINGS = {
    **{name: name for name in CONTAINERS},
    "vllm-omni": {"name": "vllm-omni", "adapters": ADAPTERS},
    "openai-images": {"name": "openai-images", "accepts": ACCEPTS},
}


class Images:
    """Makes an image of one colour, in the size that was asked for, and remembers the requests."""

    def __init__(self, size=(64, 48), error=None):
        self.requests = []
        self._size, self._error = size, error

    def __call__(self, request):
        self.requests.append(request)
        if self._error:
            raise self._error
        width, height = self._size
        size = (request.width or width, request.height or height)
        return Image.new("RGB", size, ((request.seed or 0) % 256, request.steps % 256, 7))

    @property
    def last(self):
        return self.requests[-1]


def post(container, body, *, accept="image/png", attributes="", content_type=JSON):
    """Send a request to a container; the body is JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": content_type, "Accept": accept}
    return container.answer({**headers, ATTRIBUTES: attributes} if attributes else headers, content)


def register(aws, endpoint, images):
    """Put a server of OpenAI's images API behind an endpoint, with the fields of its setting."""
    aws.registry.register(endpoint, OpenAiImages(images, accepts=SERVER_ACCEPTS))
