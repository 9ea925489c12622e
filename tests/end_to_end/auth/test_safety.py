"""Keys, links, limits and other sites, behind both gateways and with real clients."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import requests
from playwright.sync_api import expect

from tests.end_to_end.access import AUTHORIZED, FRIEND, KEY, create_link
from tests.end_to_end.account import ASYNC_ENDPOINT, ENDPOINT
from tests.end_to_end.calls import is_picture
from tests.end_to_end.conftest import SHORT_DEADLINE
from tests.end_to_end.studio import Studio

BROWSER = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Dest": "document"}


def test_a_key_grants_access_and_nothing_else_does(guarded_url, emulator):
    url = f"{guarded_url}/inference/a%20cat?seed=1"

    assert is_picture(requests.get(url, headers=AUTHORIZED, timeout=30).content)
    assert is_picture(requests.get(url, auth=("anybody", KEY), timeout=30).content)
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"x-api-key": KEY[:-1]}):
        assert requests.get(url, headers=headers, timeout=30).status_code == 401
    assert emulator.runs(ENDPOINT) == 2


def test_a_browser_signs_in_and_out(guarded_url):
    url, session = f"{guarded_url}/inference/a%20cat?seed=1", requests.Session()
    signed_in = session.post(f"{guarded_url}/session", json={"key": KEY}, timeout=30)
    # A browser sends a Secure cookie to 127.0.0.1; this library does so over HTTPS alone.
    for cookie in session.cookies:
        cookie.secure = False

    assert signed_in.status_code == 204
    assert "HttpOnly; SameSite=Lax" in signed_in.headers["Set-Cookie"]
    assert is_picture(session.get(url, timeout=30).content)
    assert session.delete(f"{guarded_url}/session", timeout=30).status_code == 204
    assert not list(session.cookies)
    assert session.get(url, timeout=30).status_code == 401


def test_openais_library_reports_what_is_wrong(guarded_url):
    ask = {"prompt": "a cat", "model": "sd"}
    client = openai.OpenAI(base_url=f"{guarded_url}/v1", api_key=KEY)
    unclient = openai.OpenAI(base_url=f"{guarded_url}/v1", api_key="none")

    assert client.images.generate(**ask).data[0].b64_json
    with pytest.raises(openai.AuthenticationError) as refused:
        unclient.images.generate(**ask)
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.BadRequestError) as filtered:
        client.images.generate(**{**ask, "prompt": "p0rn"})
    assert filtered.value.code == "moderation_blocked"


def test_the_url_in_openais_dialect_needs_no_key(guarded_url):
    client = openai.OpenAI(base_url=f"{guarded_url}/v1", api_key=KEY)
    for model in ("sd", "sdxl"):
        answer = client.images.generate(prompt="a dog", model=model, response_format="url")
        # The emulated API Gateway calls itself HTTPS, as the real one does.
        url = answer.data[0].url.replace("https://127", "http://127")

        assert is_picture(requests.get(url, timeout=30).content)
        assert requests.get(url.partition("link=")[0], timeout=30).status_code == 401


def test_a_link_paints_exactly_its_quota_of_50_parallel_requests(guarded_url, emulator):
    token = create_link(guarded_url, pictures=5)

    def visit(number):
        url = f"{guarded_url}/inference/a%20cat?seed={number}&link={token}"
        return requests.get(url, timeout=60).status_code

    with ThreadPoolExecutor(50) as pool:
        statuses = list(pool.map(visit, range(50)))

    # API Gateway answers 500 by itself where Lambda runs as many functions as it may.
    assert set(statuses) <= {200, 429, 500}
    assert statuses.count(200) == emulator.runs(ENDPOINT) == 5


def test_a_slow_picture_costs_a_friend_one_picture_however_many_hops(guarded_url, emulator):
    token = create_link(guarded_url, pictures=1)
    # A prompt of its own for either gateway_url: what exists already costs nothing.
    url = f"{guarded_url}/inference/{uuid.uuid4()}?model=sdxl&seed=3&link={token}"
    with emulator.fault(ASYNC_ENDPOINT, "slow", seconds=SHORT_DEADLINE + 1):
        first = requests.get(url, timeout=60)

    assert first.history
    assert is_picture(first.content)
    assert is_picture(requests.get(url, timeout=30).content)
    other = requests.get(url.replace("seed=3", "seed=4"), timeout=30)
    assert other.status_code == 429
    assert int(other.headers["Retry-After"]) > 0


def test_a_link_in_a_browser_leads_to_the_page_and_paints(guarded_url):
    session = requests.Session()
    page = session.get(
        f"{guarded_url}/?link={create_link(guarded_url, pictures=1)}", headers=BROWSER, timeout=30
    )
    for cookie in session.cookies:
        cookie.secure = False

    assert page.url == f"{guarded_url}/"
    assert "<form" in page.text
    assert is_picture(session.get(f"{guarded_url}/inference/a%20cat?seed=5", timeout=30).content)
    assert session.get(f"{guarded_url}/inference/a%20cat?seed=6", timeout=30).status_code == 429


def test_another_sites_script_is_let_in_where_it_is_named(guarded_url):
    asking = {
        "Origin": FRIEND,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    for path in ("jobs", "inference/a%20cat", "v1/images/generations", "session"):
        answer = requests.options(f"{guarded_url}/{path}", headers=asking, timeout=30)
        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
        assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    stranger = {**asking, "Origin": "https://evil.example"}
    answer = requests.options(f"{guarded_url}/jobs", headers=stranger, timeout=30)
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_crawler_costs_nothing(guarded_url, emulator):
    token = create_link(guarded_url, pictures=1)
    headers = {"User-Agent": "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)"}
    url = f"{guarded_url}/inference/a%20cat?seed=1&link={token}"
    answer = requests.get(url, headers=headers, timeout=30)

    assert '<meta property="og:title" content="a cat">' in answer.text
    assert emulator.requests() == []


def test_a_refused_picture_is_a_400_in_every_dialect_and_from_the_queue(guarded_url, emulator):
    refusal = {"error": {"code": "moderation_blocked", "message": "Not fit to show."}}
    fault = {"status": 422, "body": json.dumps(refusal)}
    requests_to_refuse = [
        ("get", "inference/a%20cat?seed=11", None),
        ("get", "inference/a%20cat?seed=11&model=sdxl", None),
        ("post", "v1/images/generations", {"prompt": "a cat", "seed": 12}),
        ("post", "v1/images/generations", {"prompt": "a cat", "seed": 13, "model": "sdxl"}),
        ("post", "sdapi/v1/txt2img", {"prompt": "a cat", "seed": 14}),
    ]
    with (
        emulator.fault(ENDPOINT, "failing", **fault),
        emulator.fault(ASYNC_ENDPOINT, "failing", **fault),
    ):
        for method, path, body in requests_to_refuse:
            url = f"{guarded_url}/{path}"
            answer = requests.request(method, url, json=body, headers=AUTHORIZED, timeout=60)
            assert answer.status_code == 400, path
            assert "moderation_blocked" in answer.text
            assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.browser
def test_signing_in_on_the_page_opens_the_address_bar_as_well(page, guarded_local, emulator):
    studio = Studio(page, guarded_local).open()
    studio.ask("a red apple")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("Key", exact=True).fill(KEY)
    page.get_by_label("Key", exact=True).press("Enter")

    expect(studio.picture).to_be_visible()
    assert (
        page.goto(f"{guarded_local}/inference/a%20pear?seed=1").headers["content-type"]
        == "image/png"
    )
    assert page.context.cookies()[0]["httpOnly"]
    assert emulator.runs(ENDPOINT) == 2


@pytest.mark.browser
def test_a_friend_with_a_link_paints_on_the_page(page, guarded_local, emulator):
    page.goto(f"{guarded_local}/?link={create_link(guarded_local, pictures=1)}")
    studio = Studio(page, guarded_local)
    studio.ask("a red apple")
    expect(studio.picture).to_be_visible()

    assert page.url == f"{guarded_local}/"
    assert emulator.runs(ENDPOINT) == 1
