"""The addresses that the gateway makes of prompts, followed as a client follows them."""

import json
import math
import re
from html import unescape
from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.generation import GenerationRequest, InvalidField
from chalicelib.images import jobs
from chalicelib.images.prompts import DEFAULT_PROMPT
from tests.conftest import ALL
from tests.gateway.doubles import BROWSER, KEY, ApiGateway, GuardedClient, guarded

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


BASES = ["", "/api", "/art", "/v1", "/jobs", "/inference", "/a/b", "/jobs/v1", "/inference/default"]
TYPED = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60)
AUTHORIZED = {"x_api_key": KEY}


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
def test_an_address_in_an_openai_response_is_that_of_the_prompt(guarded_client, prompt):
    body = {"prompt": prompt, "response_format": "url", "seed": 7}
    response = guarded_client.post("/v1/images/generations", body, x_api_key=KEY)
    address = json.loads(response.body)["data"][0]["url"]
    # It carries a token of its own, so it is opened without a key.
    shown = guarded_client.get(path_of(address))

    assert shown.status_code == 200
    assert prompts(guarded_client.runtime) == [prompt]


def test_the_default_route_has_a_prompt_of_its_own(client):
    client.get("/inference/default?seed=1")

    assert client.asked[0]["prompt"] == DEFAULT_PROMPT


@pytest.mark.parametrize("query", ["prompt=", "prompt=a&prompt=b", "prompt=%00"])
def test_a_wrong_prompt_in_the_query_is_named(client, query):
    response = client.get(f"/inference/default?{query}")

    assert (response.status_code, json.loads(response.body)["error"]["field"]) == (400, "prompt")


# --- Below a stage, or any base path of a custom domain -------------------------------------------


class Site:
    """A gateway below a base path, whose addresses are opened by whoever was given them."""

    def __init__(self, monkeypatch, base):
        self.base = base
        self.gateway = GuardedClient(monkeypatch, guarded(), 24, ApiGateway(base))
        self.runtime = self.gateway.runtime
        self._monkeypatch = monkeypatch

    def respond_at_once(self):
        """Wait for no queued picture, which never comes."""
        self._monkeypatch.setattr(jobs, "_SHORTEST_PAUSE", math.inf)

    def get(self, address, **headers):
        path = address if address.startswith("/") else urljoin(f"{self.base}/", address)
        return self.gateway.get(path_of(path), **headers)

    def post(self, path, value):
        return self.gateway.post(self.base + path, value, **AUTHORIZED)

    def open(self, url):
        """Open an absolute URL of this gateway, without a key."""
        parts = urlsplit(url)
        assert (parts.scheme, parts.netloc) == ("https", "art.example")
        return self.get(url.removeprefix("https://art.example"))

    def shown(self, response):
        """Return what a page's relative addresses are resolved against, and its text."""
        page = response.body.decode()
        return unescape(re.search('<base href="([^"]*)"', page)[1]), page


@pytest.fixture(params=BASES)
def site(request, monkeypatch):
    return Site(monkeypatch, request.param)


@given(st.sampled_from(BASES), st.one_of(TYPED, st.sampled_from(PROMPTS)))
@settings(max_examples=60 if ALL else 25)
def test_every_address_of_a_prompt_leads_to_it_below_any_base(base, typed):
    try:
        prompt = GenerationRequest(prompt=typed).prompt
    except InvalidField:
        return
    with pytest.MonkeyPatch.context() as monkeypatch:
        site = Site(monkeypatch, base)
        form = f"{base}/inference?prompt={quote(prompt, safe='')}&seed=7"
        picture = site.get(form, **BROWSER, **AUTHORIZED).headers["Location"]
        assert site.get(picture, **AUTHORIZED).headers["X-Seed"] == "7"

        order = {"prompt": prompt, "response_format": "url", "seed": 7}
        answer = json.loads(site.post("/v1/images/generations", order).body)
        assert site.open(answer["data"][0]["url"]).status_code == 200

        site.respond_at_once()
        answer = json.loads(site.post("/v1/images/generations", {**order, "model": "slow"}).body)
        hop = site.open(answer["data"][0]["url"])
        waiting = site.get(hop.headers["Location"], Prefer="respond-async")
        assert json.loads(waiting.body)["request"]["prompt"] == prompt
    assert prompts(site.runtime) == [prompt, prompt]


def test_a_job_is_found_at_each_of_its_addresses(site):
    response = site.post("/jobs", {"prompt": "a cat", "seed": 7, "model": "slow"})
    job = json.loads(response.body)
    addresses = [response.headers["Location"], job["url"], job["image"]]
    found = [site.get(each, Prefer="respond-async", **AUTHORIZED) for each in addresses]

    assert [json.loads(each.body)["id"] for each in found] == [job["id"]] * 3


def test_the_waiting_page_asks_for_its_job(site):
    site.respond_at_once()
    page = site.get(f"{site.base}/inference/a%20cat?model=slow&seed=7", **BROWSER, **AUTHORIZED)
    root, text = site.shown(page)
    job = re.search('data-job="([^"]*)"', text)[1]

    assert page.status_code == 202
    response = site.get(urljoin(root, f"jobs/{job}"), **AUTHORIZED)
    assert json.loads(response.body)["request"]["prompt"] == "a cat"


def test_a_queued_picture_is_waited_for_by_whoever_was_given_its_address(site):
    order = {"prompt": "a cat", "response_format": "url", "model": "slow"}
    url = json.loads(site.post("/v1/images/generations", order).body)["data"][0]["url"]
    site.respond_at_once()
    page = site.get(url.removeprefix("https://art.example"), **BROWSER)
    root, text = site.shown(page)
    job = re.search('data-job="([^"]*)"', text)[1]
    access = f"link={url.partition('link=')[2]}"

    assert page.status_code == 202
    state = site.get(urljoin(root, f"jobs/{job}?{access}"), Accept="application/json")
    assert json.loads(state.body)["state"] == "waiting"
    hop = site.get(urljoin(root, f"jobs/{job}/image?{access}"))
    assert (hop.status_code, access in hop.headers["Location"]) == (303, True)


@pytest.mark.parametrize(
    ("path", "order"),
    [
        ("/v1/images/generations", {"model": "slow"}),
        ("/sdapi/v1/txt2img", {"override_settings": {"sd_model_checkpoint": "slow"}}),
    ],
)
def test_a_redirect_of_a_call_leads_to_its_pictures(site, path, order):
    site.respond_at_once()
    first = site.post(path, {"prompt": "a cat", "seed": 7, **order})
    second = site.get(first.headers["Location"], **AUTHORIZED)

    assert second.headers["Location"] == first.headers["Location"].replace("hop=1", "hop=2")


def test_a_link_leads_to_the_page(site):
    url = json.loads(site.post("/links", {}).body)["url"]
    redirect = site.get(url.removeprefix("https://art.example"), **BROWSER)
    page = site.get(redirect.headers["Location"], **BROWSER)

    assert f"Path={site.base or '/'};" in redirect.headers["Set-Cookie"][0]
    assert site.shown(page)[0] == f"{site.base}/"
    assert site.get(f"{site.base}/inference/a", cookie=_cookie(redirect)).status_code == 200


def test_the_document_names_the_servers_address(site):
    document = json.loads(site.get(f"{site.base}/openapi.json").body)
    (server,) = document["servers"]

    assert site.open(f"{server['url']}/health").status_code == 200
    assert site.shown(site.get(f"{site.base}/docs"))[0] == f"{site.base}/"


@pytest.mark.parametrize("end", ["", "/"])
def test_the_page_of_a_random_sentence_is_its_own(site, end):
    redirect = site.get(f"{site.base}/inference{end}?seed=7", **BROWSER, **AUTHORIZED)

    assert site.get(redirect.headers["Location"], **AUTHORIZED).status_code == 200


def _cookie(response):
    return response.headers["Set-Cookie"][0].partition(";")[0]
