"""Stable Diffusion as JumpStart serves it: its script in the Hugging Face toolkit.

Follows the `inference.py` that JumpStart puts into its text-to-image models (model-txt2img-*), as
it is in public repositories, and the notebook "Introduction to JumpStart - Text to Image" of
aws/amazon-sagemaker-examples, whose list of parameters and answers it confirms. The names in
`_NAMES` that the notebook does not list are those that the script uses. That a gated model asks for
the acceptance of its licence, in these words, is the behaviour of JumpStart's Llama 2 script.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from PIL import Image

from endpoint.emulator.container.imitations.images import Generate, ImageRequest, encoded
from endpoint.emulator.container.toolkit import JSON, Context, HandlerService, Response

_MODEL_FOLDER = "/opt/ml/model"
_TEXT = "application/x-text"
_AS_JPEG, _VERBOSE = ";jpeg", ";verbose"
_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_EULA = (
    "Need to pass custom_attributes='accept_eula=true' as part of header. This means you have read"
    " and accept the end-user license agreement (EULA) of the model."
)
_DEFAULT_STEPS = 50
_INTEGERS = ("height", "width", "num_inference_steps", "num_images_per_prompt", "seed")
_NUMBERS = ("guidance_scale", "eta")
_AT_LEAST_ONE = ("num_inference_steps", "num_images_per_prompt", "batch_size")
_NAMES = ["prompt", *_INTEGERS, *_NUMBERS, "negative_prompt", "batch_size"]
_SIZE_STEP = 8


class JumpStart:
    """A container with one worker, which answers one request at a time.

    Args:
        generate: makes the images.
        gated: whether the model's licence has to be accepted with each request.
        default_size: the width and the height of the model in pixels.
    """

    def __init__(
        self, generate: Generate, *, gated: bool = False, default_size: tuple[int, int] = (512, 512)
    ) -> None:
        self._generate, self._gated, self._default_size = generate, gated, default_size
        script = SimpleNamespace(model_fn=lambda _: None, transform_fn=self._transform)
        self._handler = HandlerService(_MODEL_FOLDER, "", script)
        self._worker = threading.Lock()

    def answer(self, headers: Mapping[str, str], body: bytes) -> Response:
        """Respond to `POST /invocations`."""
        with self._worker:
            return self._handler.handle(headers, body)

    def _transform(
        self, _: None, body: Any, content_type: str, accept: str, context: Context
    ) -> str | bytes:
        if self._gated:
            headers = context.get_all_request_header(0)
            sent = [text for name, text in headers.items() if name.lower() == _ATTRIBUTES]
            # How a script reads the header is not published, so nothing else may be in it.
            if sent != ["accept_eula=true"]:
                raise ValueError(_EULA)
        if content_type == _TEXT:
            prompt = body.decode("utf-8")
            images = self._images({"prompt": prompt})
            output = {"generated_image": _as_asked(images[0], accept), "prompt": prompt}
        elif content_type == JSON:
            fields = json.loads(body)
            _check(fields)
            images = self._images(fields)
            output = {
                "generated_images": [_as_asked(image, accept) for image in images],
                "prompt": fields["prompt"],
            }
        else:
            raise ValueError(f'{{"error": "unsupported content type {content_type or "unknown"}"}}')
        accept = accept.replace(_AS_JPEG, "").removesuffix(_VERBOSE)
        if accept != JSON:
            raise ValueError(f"Content type {accept} is not supported by this framework.")
        return json.dumps(output)

    def _images(self, fields: Mapping[str, Any]) -> list[Image.Image]:
        width, height = self._default_size
        prompts = fields["prompt"]
        if not isinstance(prompts, str | list):
            raise ValueError(f"prompt must be a string or a list of string. Got {prompts}.")
        prompts = prompts if isinstance(prompts, list) else [prompts]
        negative = fields.get("negative_prompt")
        return [
            self._generate(
                ImageRequest(
                    prompt=prompt,
                    negative_prompt=negative[place] if isinstance(negative, list) else negative,
                    width=fields.get("width", width),
                    height=fields.get("height", height),
                    steps=fields.get("num_inference_steps", _DEFAULT_STEPS),
                    guidance_scale=fields.get("guidance_scale"),
                    seed=fields.get("seed"),
                )
            )
            for place, prompt in enumerate(prompts)
            for _ in range(fields.get("num_images_per_prompt", 1))
        ]


def _check(fields: Mapping[str, Any]) -> None:
    """Raise what the script raises; a KeyError's text is in quotation marks."""
    for name in fields:
        if name not in _NAMES:
            message = f"Input payload contains an invalid key {name}. Valid keys are {_NAMES}."
            raise KeyError(message)
    if "prompt" not in fields:
        raise KeyError("Input payload must contain 'prompt' key.")
    for kind, names, valid in _RULES:
        for name in names:
            if name in fields and not valid(fields[name]):
                raise ValueError(f"{name} must be {kind}, got {fields[name]}.")


# In the order in which the script checks them.
_RULES: list[tuple[str, tuple[str, ...], Callable[[Any], bool]]] = [
    ("an integer", _INTEGERS, lambda value: type(value) is int),
    ("an int or float", _NUMBERS, lambda value: type(value) in (int, float)),
    ("divisible by 8", ("height", "width"), lambda value: value % _SIZE_STEP == 0),
    ("at least 1", _AT_LEAST_ONE, lambda value: value >= 1),
]


def _as_asked(image: Image.Image, accept: str) -> Any:
    """Return a JPEG in base64, or by default rows of pixels: 16 bytes of text for each pixel."""
    if _AS_JPEG in accept:
        return base64.b64encode(encoded(image, "JPEG")).decode()
    pixels, width = list(zip(*[iter(image.convert("RGB").tobytes())] * 3, strict=True)), image.width
    return [pixels[start : start + width] for start in range(0, len(pixels), width)]
