"""What another backend than Easel's own container adds to an image: building, sending, reading.

    python -m tests.benchmarks.sections.gateway.backends

The gateway's own code in one process, from a request to the bytes of the picture, in front of a
client of SageMaker Runtime that answers at once: the backends' answers are made as their servers
make them. All backends take the same request in turns.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import os
from collections.abc import Callable
from typing import Any

from botocore.response import StreamingBody

from chalicelib.aws.deadline import Deadline
from chalicelib.aws.sagemaker import Endpoint
from chalicelib.backends.setting import NAMES
from chalicelib.generation import GenerationRequest
from chalicelib.images.resolved_request import complete
from chalicelib.settings import Settings
from tests.benchmarks.lib.measuring import Samples, in_turns, milliseconds
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section

ROUNDS = 1_000
OTHERS = tuple(name for name in NAMES if name != "easel")
# A PNG of 1,024 x 1,024 pixels has about 1.5 MB, a JPEG a fifth of that.
PNG = b"\x89PNG\r\n\x1a\n" + os.urandom(1_500_000) + b"\x00\x00\x00\x00IEND\xaeB`\x82"
JPEG = b"\xff\xd8\xff" + os.urandom(300_000) + b"\xff\xd9"
PICTURES = {name: JPEG if name == "jumpstart" else PNG for name in OTHERS}
# Where the picture is in JSON.
WRAPPED: dict[str, Callable[[str], Any]] = {
    "jumpstart": lambda text: {"generated_images": [text], "prompt": "a red apple"},
    "openai-images": lambda text: {"created": 1, "data": [{"b64_json": text}]},
}
TEXT = """\
The same request for each backend in turns, in one process, in front of a client that answers at
once with a picture of random bytes: 1.5 MB as PNG, 0.3 MB as the JPEG of JumpStart. Two backends
answer with base64 in JSON. Their baseline includes decoding that, which no adapter can avoid.
"""


class _Runtime:
    """A client of SageMaker Runtime that answers with one picture."""

    def __init__(self, answer: bytes, media_type: str) -> None:
        self._answer, self._media_type = answer, media_type

    def client(self) -> _Runtime:
        return self

    def invoke_endpoint(self, **_: Any) -> dict[str, Any]:
        length = str(len(self._answer))
        return {
            "Body": StreamingBody(io.BytesIO(self._answer), len(self._answer)),
            "ContentType": self._media_type,
            "ResponseMetadata": {"HTTPHeaders": {"content-length": length}},
        }


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    variants: dict[str, Callable[[], float]] = {}
    for name in OTHERS:
        act = functools.partial(generate, name, *_parts(name))
        variants[name] = functools.partial(milliseconds, act)
        variants[f"baseline of {name}"] = functools.partial(milliseconds, _baseline(name))
    in_turns(variants, 2)
    return report(in_turns(variants, 10 if quick else ROUNDS))


def answer_of(name: str) -> tuple[bytes, str]:
    """Return the body and the media type of a backend's answer."""
    picture = PICTURES.get(name, PNG)
    if name not in WRAPPED:
        return picture, "image/png"
    content = WRAPPED[name](base64.b64encode(picture).decode())
    return json.dumps(content).encode(), "application/json"


def generate(name: str, settings: Settings, endpoint: Endpoint) -> bytes:
    """Return the picture of a request, as the image service has it made; raises if it differs."""
    request = GenerationRequest(prompt="a red apple", width=1_024, height=1_024)
    body = endpoint.invoke(complete(settings, request), Deadline(float("inf")), "trace")
    if body != PICTURES[name]:
        raise RuntimeError(f"{name} returned another picture")
    return body


def _parts(name: str) -> tuple[Settings, Endpoint]:
    """Return the settings of a gateway with a backend, and its endpoint."""
    entry = {"endpoint": "theirs", "backend": name, "defaults": {"steps": 4}}
    settings = Settings.from_environment({"EASEL_MODELS": json.dumps({"sd": entry})})
    return settings, Endpoint(_Runtime(*answer_of(name)), "theirs", settings.models["sd"].backend)


def _baseline(name: str) -> Callable[[], object]:
    """Return what Easel's own container takes for the same picture, and base64 if there is any."""
    settings, _ = _parts("easel")
    endpoint = Endpoint(_Runtime(PICTURES[name], ""), "theirs")
    file_format = "jpeg" if name == "jumpstart" else "png"
    request = GenerationRequest(prompt="a red apple", width=1_024, height=1_024, format=file_format)
    body, _ = answer_of(name)

    def act() -> None:
        endpoint.invoke(complete(settings, request), Deadline(float("inf")), "trace")
        if name == "jumpstart":
            base64.b64decode(json.loads(body)["generated_images"][0])
        if name == "openai-images":
            base64.b64decode(json.loads(body)["data"][0]["b64_json"])

    return act


def report(measured: dict[str, Samples]) -> Section:
    """Return all figures with their baselines."""
    rows = [
        Row(
            f"a picture of {name}",
            "ms",
            Figure.of(measured[name]),
            "Easel's container, and base64" if name in WRAPPED else "Easel's container",
            Figure.of(measured[f"baseline of {name}"]),
            Aim("difference", at_most=1),
        )
        for name in OTHERS
    ]
    return Section("Backends", TEXT, tuple(rows))


if __name__ == "__main__":
    print_section(section)
