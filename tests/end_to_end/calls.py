"""What the tests send and what they look at, whichever client sends it."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import requests
from PIL import Image

from endpoint.emulator.client import EmulatorClient
from tests.end_to_end.account import ENDPOINT

BROWSER = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
}
IMAGE_ELEMENT = {
    "Accept": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
    "Sec-Fetch-Dest": "image",
}


# Less than the 60 s of SageMaker and the 29 s of API Gateway.
_HELD_SECONDS = 25


@contextmanager
def held(
    emulator: EmulatorClient, times: int | None = None, *, endpoint: str = ENDPOINT
) -> Iterator[None]:
    """Hold all pictures back, or so many, until the context ends, however slow this machine is."""
    with emulator.fault(endpoint, "slow", seconds=_HELD_SECONDS, times=times):
        try:
            yield
        finally:
            emulator.set_clock(skip=_HELD_SECONDS)


def wait_for_request(emulator: EmulatorClient) -> None:
    """Wait until the endpoint has received a request."""
    until = time.monotonic() + 30
    while not emulator.requests(ENDPOINT):
        assert time.monotonic() < until
        time.sleep(0.05)


def get(url: str, headers: dict[str, Any] | None = None, **options: Any) -> requests.Response:
    return requests.get(url, headers=headers or {}, timeout=30, **options)


def picture_url(gateway_url: str, prompt: str, **parameters: Any) -> str:
    query = "&".join(f"{name}={quote(str(value))}" for name, value in parameters.items())
    return f"{gateway_url}/inference/{quote(prompt, safe='')}" + (f"?{query}" if query else "")


def async_url(gateway_url: str, prompt: str, **parameters: Any) -> str:
    return picture_url(gateway_url, prompt, model="sdxl", seed=7, **parameters)


def is_picture(content: bytes) -> bool:
    return Image.open(io.BytesIO(content)).format == "PNG"


def picture(data: Any) -> Image.Image:
    """Return the picture in an item of an OpenAI client's response."""
    return Image.open(io.BytesIO(base64.b64decode(data.b64_json)))


def bodies(emulator: EmulatorClient, endpoint: str = ENDPOINT) -> list[dict[str, Any]]:
    """Return the requests that an endpoint has received, in order."""
    return [json.loads(request["body"]) for request in emulator.requests(endpoint)]


def prompts(emulator: EmulatorClient) -> list[str]:
    """Return the prompts that the real-time endpoint has received, in order."""
    return [body["prompt"] for body in bodies(emulator)]
