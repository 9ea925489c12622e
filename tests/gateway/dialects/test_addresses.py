"""The addresses that the gateway makes of prompts, followed as a client follows them."""

import json
from urllib.parse import quote, unquote, urlsplit

import pytest

from chalicelib.images.prompts import DEFAULT_PROMPT
from tests.gateway.doubles import BROWSER, KEY, GuardedClient, guarded

PROMPTS = [
    "default",
    ".",
    "..",
    "...",
    "Default",
    "./a",
    "../a",
    "a/..",
    "%2e",
    "%64efault",
    "a, b",
]


@pytest.fixture
def keyed(monkeypatch):
    return GuardedClient(monkeypatch, guarded())


def path_of(address):
    """Return what a client asks for: dots in the path are resolved, as in browsers."""
    parts, kept = urlsplit(address), []
    for part in parts.path.split("/")[1:]:
        if unquote(part) == "..":
            del kept[-1:]
        elif unquote(part) != ".":
            kept.append(part)
    return f"/{'/'.join(kept)}?{parts.query}"


def prompts(runtime):
    return [json.loads(asked["Body"])["prompt"] for asked in runtime.asked]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_form_leads_to_the_picture_of_what_was_typed(client, prompt):
    redirect = client.get(f"/inference?prompt={quote(prompt, safe='')}&seed=7", **BROWSER)
    client.get(path_of(redirect.headers["Location"]))

    (asked,) = client.asked
    assert (asked["prompt"], asked["seed"]) == (prompt, 7)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_an_address_in_an_openai_response_is_that_of_the_prompt(keyed, prompt):
    body = {"prompt": prompt, "response_format": "url", "seed": 7}
    response = keyed.post("/v1/images/generations", body, x_api_key=KEY)
    address = json.loads(response.body)["data"][0]["url"]
    # It carries a token of its own, so it is opened without a key.
    shown = keyed.get(path_of(address))

    assert shown.status_code == 200
    assert prompts(keyed.runtime) == [prompt]


def test_the_default_route_has_a_prompt_of_its_own(client):
    client.get("/inference/default?seed=1")

    assert client.asked[0]["prompt"] == DEFAULT_PROMPT


@pytest.mark.parametrize("query", ["prompt=", "prompt=a&prompt=b", "prompt=%00"])
def test_a_wrong_prompt_in_the_query_is_named(client, query):
    response = client.get(f"/inference/default?{query}")

    assert (response.status_code, json.loads(response.body)["error"]["field"]) == (400, "prompt")
