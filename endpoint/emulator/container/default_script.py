"""What the Hugging Face toolkit does without a script: text to image, by any diffusers pipeline.

Follows `handler_service.py`, `decoder_encoder.py` and `diffusers_utils.py` of
sagemaker-huggingface-inference-toolkit 2.6.0 (Apache-2.0), and `errors.py` of sagemaker-inference
1.10.1. Left out: other tasks, and inputs other than JSON, which text-to-image cannot use.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from PIL import Image

from endpoint.emulator.container.imitations.images import encoded
from endpoint.emulator.container.toolkit import JSON

TASK = "text-to-image"
# The types of `Accept` for which the toolkit has an encoder of images.
_IMAGE_TYPES = ("jpeg", "png", "tiff", "bmp", "gif", "webp", "x-image")
# A diffusers pipeline, of whose result only the first image is used.
Pipeline = Callable[..., Image.Image]


def default_script(load: Callable[[str], Pipeline]) -> SimpleNamespace:
    """Return the toolkit's own four functions; `load` gets the model's folder."""

    def predict(data: dict[str, Any], pipeline: Pipeline) -> Image.Image:
        inputs = data.pop("inputs", data)
        parameters = data.pop("parameters", None) or {}
        # Accepted and dropped, with a warning in the log.
        parameters.pop("num_images_per_prompt", None)
        return pipeline(inputs, num_images_per_prompt=1, **parameters)

    return SimpleNamespace(
        model_fn=lambda model_dir: load(model_dir),
        input_fn=_decode,
        predict_fn=predict,
        output_fn=_encode,
    )


def load_diffusers(model_dir: str) -> Pipeline:
    """Load a folder of weights as the toolkit does on a CPU."""
    import torch
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(model_dir, torch_dtype=torch.float32).to("cpu")

    def generate(prompt: object, **options: Any) -> Image.Image:
        image: Image.Image = pipeline(prompt, **options).images[0]
        return image

    return generate


def _decode(body: Any, content_type: str) -> Any:
    if content_type != JSON:
        raise ValueError(_unsupported(content_type))
    return json.loads(body)


def _encode(image: Image.Image, accept: str) -> str | bytes:
    kind = accept.removeprefix("image/")
    if accept.startswith("image/") and kind in _IMAGE_TYPES:
        return encoded(image, "PNG" if kind == "x-image" else kind.upper())
    if accept != JSON:
        raise ValueError(_unsupported(accept))
    return json.dumps(base64.b64encode(encoded(image, "PNG")).decode())


def _unsupported(content_type: str) -> str:
    # With the indentation of its source, which the library means to remove and does not.
    indentation = " " * 12
    return (
        f"Content type {content_type} is not supported by this framework.\n\n"
        f"{indentation}Please implement input_fn to to deserialize the request data or an output_fn"
        f" to\n{indentation}serialize the response. For more information, see the SageMaker Python"
        " SDK README."
    )
