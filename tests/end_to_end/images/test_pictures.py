"""Prompts in, pictures out."""

import io
import json
from urllib.parse import unquote

import pytest
import requests
from PIL import Image

from tests.end_to_end.account import ENDPOINT, MODELS
from tests.end_to_end.calls import BROWSER, IMAGE_ELEMENT, get, picture_url
from tests.packages import ROOT

SENTENCES = json.loads((ROOT / "gateway/chalicelib/sentences.json").read_text("utf-8"))
HOSTILE = {
    "a red apple": "a red apple",
    "  spaces   all  over ": "spaces all over",
    "café über Straße": "café über Straße",
    "cafe\u0301": "café",
    "猫と犬 in the snow": "猫と犬 in the snow",
    "👩‍🚀 on a 🐎": "👩‍🚀 on a 🐎",
    "either/or": "either/or",
    "what? why!": "what? why!",
    "a+b = c": "a+b = c",
    "100% cotton": "100% cotton",
    "%2F %3F %00 as typed": "%2F %3F %00 as typed",
    "\"double\" and 'single' `back`": "\"double\" and 'single' `back`",
    "one\ntwo\r\nthree\tfour": "one two three four",
    "<script>alert(1)</script>": "<script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>": "</title><img src=x onerror=alert(1)>",
    "a;b;c": "a;b;c",
    "a=1&seed=2#fragment": "a=1&seed=2#fragment",
    "../../../etc/passwd": "../../../etc/passwd",
    "dots .. and . dots": "dots .. and . dots",
    "back\\slash": "back\\slash",
    "{{7*7}} ${jndi:ldap://x} %(a)s": "{{7*7}} ${jndi:ldap://x} %(a)s",
    "$(reboot) `id` | tee; &&": "$(reboot) `id` | tee; &&",
    "'; DROP TABLE pictures; --": "'; DROP TABLE pictures; --",
    "X-Injected: yes\r\nSet-Cookie: a=b": "X-Injected: yes Set-Cookie: a=b",
    "שלום עולם": "שלום עולם",
    "\u202egnp.exe": "\u202egnp.exe",
    "default ": "default",
    "options": "options",
    "x" * 1_000: "x" * 1_000,
}


@pytest.mark.parametrize("typed", HOSTILE, ids=range(len(HOSTILE)))
def test_a_prompt_arrives_as_typed_and_breaks_nothing(gateway_url, emulator, typed):
    response = get(picture_url(gateway_url, typed, seed=7))

    (received,) = emulator.requests(ENDPOINT)
    expected = HOSTILE[typed]
    if expected != "default":
        assert json.loads(received["body"])["prompt"] == expected
    assert response.status_code == 200
    assert Image.open(io.BytesIO(response.content)).format == "PNG"
    assert unquote(response.headers["X-Prompt"]) == json.loads(received["body"])["prompt"]
    assert "X-Injected" not in response.headers
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "*/*"},
        {"Accept": None},
        {"Accept": "image/png"},
        {"Accept": "application/json"},
        {"Accept": "text/plain"},
        BROWSER,
        IMAGE_ELEMENT,
    ],
    ids=["curl", "no accept", "png", "json", "text", "navigation", "img"],
)
@pytest.mark.parametrize("format", ["png", "webp", "jpeg"])
def test_every_client_gets_raw_bytes(gateway_url, headers, format):
    response = get(picture_url(gateway_url, "a cat", seed=7, format=format), headers)

    assert response.status_code == 200
    assert response.headers["Content-Type"] == f"image/{format}"
    assert int(response.headers["Content-Length"]) == len(response.content)
    assert Image.open(io.BytesIO(response.content)).format == format.upper()


def test_both_gateways_give_the_same_picture(chalice_local, api_gateway):
    bodies = {
        get(picture_url(url, "a cat", seed=7)).content for url in (chalice_local, api_gateway)
    }

    assert len(bodies) == 1


def test_a_url_that_names_its_seed_is_a_fixed_picture(gateway_url, emulator):
    first, second = (get(picture_url(gateway_url, "a cat", seed=7)) for _ in range(2))
    other = get(picture_url(gateway_url, "a cat"))

    assert first.content == second.content != other.content
    assert "immutable" in first.headers["Cache-Control"]
    assert other.headers["Cache-Control"] == "no-store"
    again = get(picture_url(gateway_url, "a cat", seed=other.headers["X-Seed"]))
    assert again.content == other.content


def test_a_head_request_never_reaches_the_endpoint(gateway_url, emulator):
    response = requests.head(picture_url(gateway_url, "a cat", seed=7), timeout=30)

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "image/png"
    assert emulator.requests() == []


def test_a_prefetch_never_reaches_the_endpoint(gateway_url, emulator):
    response = get(picture_url(gateway_url, "a cat"), {**BROWSER, "Sec-Purpose": "prefetch"})

    assert response.status_code == 503
    assert emulator.requests() == []


def test_bad_input_is_refused_by_name_before_any_gpu_time(gateway_url, emulator):
    for url, field in [
        (picture_url(gateway_url, "a cat", steps=0), "steps"),
        (picture_url(gateway_url, "a cat", nonsense=1), "nonsense"),
        (picture_url(gateway_url, "a cat") + "?seed=1&seed=2", "seed"),
        (picture_url(gateway_url, "a\0cat"), "prompt"),
        (picture_url(gateway_url, "x" * 1_001), "prompt"),
        (picture_url(gateway_url, " "), "prompt"),
        (f"{gateway_url}/inference/%ff%fe", "prompt"),
    ]:
        response = get(url)
        assert response.status_code == 400, url
        assert response.json()["error"]["field"] == field
    assert emulator.requests() == []


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_random_sentence_is_painted_with_and_without_a_slash(gateway_url, slash):
    response = get(f"{gateway_url}/inference{slash}")

    assert Image.open(io.BytesIO(response.content)).format == "PNG"
    assert unquote(response.headers["X-Prompt"]) in SENTENCES


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_browser_ends_at_the_random_sentences_own_url(gateway_url, emulator, slash):
    response = get(f"{gateway_url}/inference{slash}", BROWSER)

    (hop,) = response.history
    assert hop.status_code == 303
    assert response.url.startswith(f"{gateway_url}/inference/")
    assert f"seed={response.headers['X-Seed']}" in response.url
    assert "immutable" in response.headers["Cache-Control"]
    assert emulator.runs(ENDPOINT) == 1


def test_the_default_prompt_has_its_own_url(gateway_url):
    response = get(f"{gateway_url}/inference/default")

    assert unquote(response.headers["X-Prompt"]) == "a photo of an astronaut riding a horse on mars"


def test_the_page_the_options_and_the_health_answer(gateway_url, emulator):
    page = get(f"{gateway_url}/", BROWSER)
    options = get(f"{gateway_url}/options").json()
    health = get(f"{gateway_url}/health").json()

    assert '<base href="/api/">' in page.text
    assert [model["name"] for model in options["models"]] == [*MODELS]
    assert health["status"] == "ok"
    assert emulator.requests() == []


def test_a_get_with_a_content_type_is_no_reason_to_refuse(gateway_url):
    response = get(picture_url(gateway_url, "a cat"), {"Content-Type": "text/plain"})

    assert response.status_code == 200


def test_the_longest_prompt_of_the_longest_characters_is_answered_in_every_case(gateway_url):
    """640 cats take 7,680 bytes in the URL; API Gateway's limit is 10,240."""
    response = get(picture_url(gateway_url, "\U0001f408" * 640))

    assert response.status_code == 200
    head = sum(len(name) + len(value) + 4 for name, value in response.headers.items())
    assert head < 10_240
