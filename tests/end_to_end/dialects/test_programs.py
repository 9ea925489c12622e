"""Programs, unmodified, with nothing changed but the base URL and the key."""

import io
import json
from base64 import b64decode

import requests
from PIL import Image

from tests.end_to_end.access import KEY
from tests.end_to_end.account import ASYNC_ENDPOINT
from tests.end_to_end.calls import bodies, is_picture


def test_litellm(guarded_local, program, emulator, prompt):
    easel = {"api_base": f"{guarded_local}/v1", "api_key": KEY, "prompt": prompt}
    two, slow, size, key = program(
        "litellm_client.py",
        json.dumps(
            [
                {**easel, "model": "openai/sd", "n": 2, "size": "128x64"},
                {**easel, "model": "openai/sdxl"},
                {**easel, "model": "openai/sd", "size": "100x100"},
                {**easel, "model": "openai/sd", "api_key": "wrong"},
            ]
        ),
    )

    sizes = [Image.open(io.BytesIO(b64decode(picture))).size for picture in two["pictures"]]
    assert sizes == [(128, 64)] * 2
    assert is_picture(b64decode(slow["pictures"][0]))
    assert emulator.runs(ASYNC_ENDPOINT) == 1
    assert size["error"] == "BadRequestError"
    assert "multiple of 8" in size["message"]
    assert key["error"] == "AuthenticationError"
    assert {request["prompt"] for request in bodies(emulator)} == {prompt}


def test_langchain(guarded_local, program, emulator, prompt):
    fields = json.dumps({"model": "dall-e-3", "size": "1792x1024"})
    url = program("langchain_client.py", f"{guarded_local}/v1", KEY, prompt, fields)
    picture = requests.get(url, timeout=30)  # without the key: the URL has a token

    assert Image.open(io.BytesIO(picture.content)).size == (1512, 864)
    assert [request["prompt"] for request in bodies(emulator)] == [prompt]


def test_a_strict_client_of_the_web_uis_api(chalice_local, program, emulator, prompt):
    """sd-backend-client, which IntraPaint uses; it has no setting for a key."""
    fields = {"prompt": prompt, "width": 128, "height": 64, "batch_size": 2, "seed": 42, "steps": 3}
    result = program("strict_web_ui_client.py", chalice_local, json.dumps(fields))

    assert result == {
        "backend": "A1111Webservice",
        "sizes": [[128, 64]] * 2,
        "seeds": [42, 43],
    }
    assert len(bodies(emulator)) == 2
