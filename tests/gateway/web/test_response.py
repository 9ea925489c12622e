"""Responses."""

import io
import json
from urllib.parse import unquote

import pytest
from PIL import Image

from chalicelib.generation import GenerationRequest
from chalicelib.web.response import content_disposition, file_names
from tests.gateway.doubles import BROWSER, refusal


def test_a_picture_says_what_made_it(client):
    response = client.get("/inference/caf%C3%A9%20%E7%8C%AB%0Aby%20night?seed=7&model=sdxl")

    assert response.headers["X-Seed"] == "7"
    assert response.headers["X-Model"] == "sdxl"
    assert unquote(response.headers["X-Prompt"]) == "café 猫 by night"
    assert response.headers["Content-Disposition"].startswith("inline; filename=")
    assert all(value.isascii() and "\n" not in value for value in response.headers.values())


def test_a_long_prompt_of_long_characters_fits_the_header_limit_of_api_gateway(client):
    prompt = "%F0%9F%90%88" * 800
    response = client.get(f"/inference/{prompt}")

    assert sum(len(name) + len(value) for name, value in response.headers.items()) < 10_240
    assert set(unquote(response.headers["X-Prompt"])) == {"\U0001f408"}


def test_a_url_that_names_its_seed_can_be_cached_indefinitely(client):
    fixed = client.get("/inference/a%20cat?seed=0")
    random_seed = client.get("/inference/a%20cat")
    empty = client.get("/inference/a%20cat?seed=")

    assert fixed.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert random_seed.headers["Cache-Control"] == "no-store"
    assert empty.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_other_formats_come_back_as_such(client, format):
    response = client.get(f"/inference/a%20cat?format={format}")

    assert response.headers["Content-Type"] == f"image/{format}"
    assert Image.open(io.BytesIO(response.body)).format == format.upper()


def test_errors_are_json_for_programs_and_a_page_for_browsers(client):
    client.endpoint.outcome = refusal("ThrottlingException")
    program = client.get("/inference/a%20cat")
    person = client.get("/inference/a%20cat", **BROWSER)

    assert program.status_code == person.status_code == 503
    assert program.headers["Retry-After"] == person.headers["Retry-After"] == "15"
    assert json.loads(program.body)["error"]["code"] == "endpoint_busy"
    assert person.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in person.headers["Content-Security-Policy"]
    assert b"is still starting" in person.body


@pytest.mark.parametrize(
    ("prompt", "plain", "full"),
    [
        ("a red apple", "a-red-apple-7.png", "a-red-apple-7.png"),
        ('../../"etc"; rm -rf /\\', "etc-rm-rf-7.png", "etc-rm-rf-7.png"),
        ("猫", "easel-7.png", "猫-7.png"),
        ("café au lait", "caf-au-lait-7.png", "café-au-lait-7.png"),
        ("?!", "easel-7.png", "easel-7.png"),
        ("x" * 500, "x" * 60 + "-7.png", "x" * 60 + "-7.png"),
    ],
)
def test_a_file_is_named_after_its_prompt_and_seed(prompt, plain, full):
    assert file_names(GenerationRequest(prompt=prompt, seed=7)) == (plain, full)


def test_the_disposition_header_is_plain_ascii():
    header = content_disposition(GenerationRequest(prompt="猫 on a mat", seed=7))

    assert header.isascii()
    assert header.startswith("inline; filename=\"on-a-mat-7.png\"; filename*=UTF-8''%E7%8C%AB-on")
