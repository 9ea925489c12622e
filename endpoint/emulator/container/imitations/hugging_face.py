"""AWS's Hugging Face image without a script: the toolkit's default handler for text-to-image.

The handler itself is `default_script.py`. This is a pipeline for it that refuses what
StableDiffusionPipeline of diffusers 0.42.1 (Apache-2.0) refuses, in its words.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from PIL import Image

from endpoint.emulator.container.default_script import default_script
from endpoint.emulator.container.imitations.images import Generate, ImageRequest
from endpoint.emulator.container.toolkit import HandlerService, Response

_MODEL_FOLDER = "/opt/ml/model"
_PIPELINE = "StableDiffusionPipeline"
_DEFAULT_STEPS = 50
_SIZE_STEP = 8
_PASSED_ON = ("height", "width", "guidance_scale", "negative_prompt")
# The pipeline's other arguments that JSON can express and that change nothing at these values.
_WITHOUT_EFFECT = {
    "clip_skip": None,
    "eta": 0.0,
    "generator": None,
    "guidance_rescale": 0.0,
    "output_type": "pil",
}


class HuggingFace:
    """A container with one worker, which answers one request at a time.

    Args:
        generate: makes the images.
        program: SAGEMAKER_PROGRAM; no such script exists.
    """

    def __init__(self, generate: Generate, program: str = "") -> None:
        script = default_script(lambda _: _pipeline(generate))
        self._handler = HandlerService(_MODEL_FOLDER, program, script)
        self._worker = threading.Lock()

    def answer(self, headers: Mapping[str, str], body: bytes) -> Response:
        """Respond to `POST /invocations`."""
        with self._worker:
            return self._handler.handle(headers, body)


def _pipeline(generate: Generate) -> Any:
    def call(prompt: object, **options: Any) -> Image.Image:
        options.pop("num_images_per_prompt")
        steps = options.pop("num_inference_steps", _DEFAULT_STEPS)
        passed_on = {name: options.pop(name) for name in _PASSED_ON if name in options}
        _check(prompt, passed_on, options)
        return generate(ImageRequest(prompt=str(prompt), steps=steps, **passed_on))

    return call


def _check(prompt: object, passed_on: Mapping[str, Any], rest: Mapping[str, Any]) -> None:
    """Raise what the pipeline raises."""
    if rest.get("generator") is not None:
        # A torch.Generator, which no JSON can be: diffusers looks for its device.
        raise AttributeError(
            f"{type(rest['generator']).__name__!r} object has no attribute 'device'"
        )
    for name in rest:
        if name != "generator" and name not in _WITHOUT_EFFECT:
            message = f"{_PIPELINE}.__call__() got an unexpected keyword argument {name!r}"
            raise TypeError(message)
        if name != "generator" and rest[name] != _WITHOUT_EFFECT[name]:
            raise NotImplementedError(f"the imitation has no {name} of {rest[name]!r}")
    height, width = (passed_on.get(name) or 0 for name in ("height", "width"))
    if height % _SIZE_STEP or width % _SIZE_STEP:
        raise ValueError(
            "`height` and `width` have to be divisible by 8 but are"
            f" {passed_on.get('height')} and {passed_on.get('width')}."
        )
    if not isinstance(prompt, str | list):
        raise ValueError(f"`prompt` has to be of type `str` or `list` but is {type(prompt)}")
