"""OpenAI's dialect: what front ends are known to send, and the corners of it."""

import base64
import json

import pytest

from tests.gateway.test_app import log, visitor  # noqa: F401 (fixtures)

# Recorded from each program's source in late 2026; the prompt alone is ours.
OPEN_WEBUI = {
    "model": "dall-e-3",
    "prompt": "a cat",
    "n": 1,
    "size": "512x512",
    "response_format": "b64_json",
}
LIBRECHAT = {
    "model": "gpt-image-1",
    "prompt": "a cat",
    "n": 1,
    "size": "auto",
    "quality": "auto",
    "background": "auto",
    "output_format": "png",
}
LOBEHUB = {
    "model": "gpt-image-1",
    "prompt": "a cat",
    "n": 1,
    "width": 512,
    "height": 512,
    "steps": 20,
    "seed": 7,
}
VERCEL = {"model": "sd", "prompt": "a cat", "n": 1, "response_format": "b64_json", "size": None}
BODIES = {"Open WebUI": OPEN_WEBUI, "LibreChat": LIBRECHAT, "LobeHub": LOBEHUB, "Vercel": VERCEL}


def post(visitor, body, path="/v1/images/generations"):  # noqa: F811
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return visitor.post(path, content)


@pytest.mark.parametrize("program", BODIES)
def test_what_a_front_end_sends_is_painted(visitor, program):  # noqa: F811
    response = post(visitor, BODIES[program])

    (data,) = json.loads(response.body)["data"]
    assert base64.b64decode(data["b64_json"]).startswith(b"\x89PNG")
    assert visitor.asked[0]["prompt"] == "a cat"


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"[" * 100_000, b'"text"', b"\xff"])
def test_a_body_that_is_no_json_object_is_a_400(visitor, body):  # noqa: F811
    response = post(visitor, body)

    assert response.status_code == 400
    assert json.loads(response.body)["error"]["type"] == "invalid_request_error"
    assert response.headers["x-request-id"]


def test_the_log_says_how_many_pictures_and_not_of_what(visitor, log):  # noqa: F811
    post(visitor, {"prompt": "a secret wish", "n": 2})

    lines = log()
    assert json.loads(lines[0])["pictures"] == 2
    assert "secret" not in "".join(lines)
