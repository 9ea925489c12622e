"""A visitor of the deployed gateway: one picture through each API, and what else a proof asks."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urljoin

from endpoint.core.clock import Clock
from endpoint.core.http import Answer, Ask
from endpoint.core.problems import ScriptError

_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_HOPS = 300  # of at most 24 s: two hours
_MOST_REPEATS = 100


class NoPicture(ScriptError):
    """The gateway answered with something other than a picture."""


class Visitor:
    """Sends requests to a gateway with a key.

    Args:
        ask: sends one request.
        url: the gateway's, with a slash at its end.
        clock: for waiting between two requests.
    """

    def __init__(self, ask: Ask, url: str, key: str, clock: Clock) -> None:
        self._ask = ask
        self.url = url
        self._key = key
        self._clock = clock

    def get(self, path: str, **headers: str) -> Answer:
        """Return the answer to a GET with the key."""
        return self._send("GET", f"{self.url}{path}", None, headers)

    def post(self, path: str, body: Mapping[str, object], **headers: str) -> Answer:
        """Return the answer to a POST of JSON with the key."""
        headers = {"Content-Type": "application/json", **headers}
        return self._send("POST", f"{self.url}{path}", json.dumps(body).encode(), headers)

    def without_key(self, path: str) -> Answer:
        """Return the answer to a GET without the key."""
        return self._ask("GET", f"{self.url}{path}", {"Accept": "application/json"}, None)

    def fetch(self, url: str) -> Answer:
        """Return the answer to a GET of any URL, such as a presigned one."""
        return self._ask("GET", url, {}, None)

    def send(self, url: str, body: bytes, media_type: str) -> Answer:
        """Return the answer to a POST to any URL, such as that of a form."""
        return self._send("POST", url, body, {"Content-Type": media_type})

    def _send(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        self._clock.sleep(0)  # where the limit of the cost is reached, no request is sent
        # A URL in S3 has its own authentication, and must not see the key.
        own = {"x-api-key": self._key} if url.startswith(self.url) else {}
        return self._ask(method, url, {"Accept": "image/png", **own, **headers}, body)

    # One picture through each API

    def picture(self, prompt: str, model: str, seed: int) -> bytes:
        """Return a picture of Easel's own URL, following redirects while it is generated."""
        path = f"inference/{quote(prompt, safe='')}?model={model}&seed={seed}"
        return self._followed(self.patiently(lambda: self.get(path)))

    def job(self, prompt: str, model: str, seed: int) -> bytes:
        """Return the picture of a job: 202, then its picture once it is there."""
        body = {"prompt": prompt, "model": model, "seed": seed}
        headers = {"Accept": "application/json", "Prefer": "respond-async"}
        answer = self.patiently(lambda: self.post("jobs", body, **headers))
        if answer.status not in {200, 202}:
            raise NoPicture(_described("POST /jobs", answer))
        path = f"jobs/{answer.json()['id']}/image"
        return self._followed(self.patiently(lambda: self.get(path)))

    def images_api(self, prompt: str, model: str) -> bytes:
        """Return a picture of OpenAI's Images API."""
        body = {"prompt": prompt, "model": model, "response_format": "b64_json"}
        answer = self._read("v1/images/generations", body)
        return _checked("OpenAI's API", base64.b64decode(answer["data"][0]["b64_json"]))

    def web_ui(self, prompt: str, seed: int) -> bytes:
        """Return a picture of AUTOMATIC1111's API."""
        answer = self._read("sdapi/v1/txt2img", {"prompt": prompt, "seed": seed})
        return _checked("AUTOMATIC1111's API", base64.b64decode(answer["images"][0]))

    def _read(self, path: str, body: Mapping[str, object]) -> Any:
        answer = self.patiently(lambda: self.post(path, body, Accept="application/json"))
        if answer.status != 200:
            raise NoPicture(_described(f"POST /{path}", answer))
        return answer.json()

    def patiently(self, send: Callable[[], Answer]) -> Answer:
        """Return the answer; a throttled request, or a model being loaded, is asked again."""
        answer = send()
        for _ in range(_MOST_REPEATS):
            if answer.status not in {429, 503} or "retry-after" not in answer.headers:
                break
            self._clock.sleep(min(60.0, float(answer.headers["retry-after"])))
            answer = send()
        return answer

    def _followed(self, answer: Answer) -> bytes:
        url = self.url
        for _ in range(_MOST_HOPS):
            if answer.status not in {303, 307}:
                break
            url = urljoin(url, answer.headers["location"])
            answer = self.patiently(partial(self._send, "GET", url, None, {}))
        if answer.status != 200:
            raise NoPicture(_described("GET", answer))
        return _checked("the gateway", answer.body)


def _checked(what: str, body: bytes) -> bytes:
    if not body.startswith(_PNG):
        raise NoPicture(f"{what} returned {len(body)} bytes that are not a PNG.")
    return body


def _described(what: str, answer: Answer) -> str:
    return f"{what} returned {answer.status}: {answer.body[:200].decode(errors='replace')}"
