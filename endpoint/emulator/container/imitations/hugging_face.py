"""AWS's Hugging Face image without a script: the toolkit's default handler for text-to-image.

The handler itself is `default_script.py`. This is a pipeline for it that refuses what the pipelines
of diffusers 0.42.1 (Apache-2.0) refuse, in their words: those of Stable Diffusion and SDXL ignore
arguments that they do not know, and those of Z-Image, FLUX.2 and other newer models refuse them.
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
_NEWER_PIPELINE = "ZImagePipeline"
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
        ignores_unknown: whether the pipeline ignores arguments that it does not know.
    """

    def __init__(self, generate: Generate, *, ignores_unknown: bool = True) -> None:
        script = default_script(lambda _: _pipeline(generate, ignores_unknown))
        self._handler = HandlerService(_MODEL_FOLDER, "", script)
        self._worker = threading.Lock()

    def answer(self, headers: Mapping[str, str], body: bytes) -> Response:
        """Respond to `POST /invocations`."""
        with self._worker:
            return self._handler.handle(headers, body)


def _pipeline(generate: Generate, ignores_unknown: bool) -> Any:
    def call(prompt: object, **options: Any) -> Image.Image:
        options.pop("num_images_per_prompt")
        steps = options.pop("num_inference_steps", _DEFAULT_STEPS)
        passed_on = {name: options.pop(name) for name in _PASSED_ON if name in options}
        if not ignores_unknown:
            _check_names(options)
        _check(prompt, passed_on, options)
        return generate(ImageRequest(prompt=str(prompt), steps=steps, **passed_on))

    return call


def _check_names(rest: Mapping[str, Any]) -> None:
    for name in rest:
        if name not in _WITHOUT_EFFECT:
            message = f"{_NEWER_PIPELINE}.__call__() got an unexpected keyword argument {name!r}"
            raise TypeError(message)


def _check(prompt: object, passed_on: Mapping[str, Any], rest: Mapping[str, Any]) -> None:
    """Raise what the pipeline raises."""
    for name in _WITHOUT_EFFECT.keys() & rest.keys():
        if name == "generator" and rest[name] is not None:
            # It should be a torch.Generator, which no JSON can be: diffusers looks for its device.
            raise AttributeError(f"{type(rest[name]).__name__!r} object has no attribute 'device'")
        if rest[name] != _WITHOUT_EFFECT[name]:
            raise NotImplementedError(f"the imitation has no {name} of {rest[name]!r}")
    height, width = (passed_on.get(name) or 0 for name in ("height", "width"))
    if height % _SIZE_STEP or width % _SIZE_STEP:
        raise ValueError(
            "`height` and `width` have to be divisible by 8 but are"
            f" {passed_on.get('height')} and {passed_on.get('width')}."
        )
    if not isinstance(prompt, str | list):
        raise ValueError(f"`prompt` has to be of type `str` or `list` but is {type(prompt)}")
