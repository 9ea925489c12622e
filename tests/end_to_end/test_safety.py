"""Keys, links, limits and other sites, behind both doors and with real clients."""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import requests
from PIL import Image
from playwright.sync_api import expect

from endpoint.emulator.apigateway import packaged_gateway
from endpoint.emulator.process.processes import Child, free_port
from tests.end_to_end.conftest import ASYNC_ENDPOINT, BUCKET, ENDPOINT, QUEUE, answers
from tests.end_to_end.test_page import Studio
from tests.packages import ROOT

KEY = "easel_" + "k" * 43
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
FRIEND = "https://friend.example"
BROWSER = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Dest": "document"}


@pytest.fixture(scope="module")
def settings(gateway_environment):
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    return {
        **gateway_environment,
        "EASEL_MODELS": json.dumps({"sd": {"endpoint": ENDPOINT}, "sdxl": {"asynchronous": QUEUE}}),
        "EASEL_API_KEYS": json.dumps([{"name": "ada", "sha256": digest}]),
        "EASEL_SECRET": "s" * 43,
        "EASEL_LINKS": f"s3://{BUCKET}/links/",
        "EASEL_PROMPT_FILTER": "refuse",
        "EASEL_CORS_ORIGINS": FRIEND,
    }


@pytest.fixture(scope="module")
def local(settings):
    port = free_port()
    arguments = [str(ROOT / "gateway"), str(port)]
    module = "endpoint.emulator.apigateway.local_gateway"
    with Child("the gateway", module, arguments, environment={**os.environ, **settings}) as child:
        child.wait_until(lambda: answers(f"http://127.0.0.1:{port}/api/health"), 60)
        yield f"http://127.0.0.1:{port}/api"


@pytest.fixture(scope="module")
def packaged(package, settings):
    with packaged_gateway.serve(package, environment=settings) as server:
        yield f"{server.url}/api"


@pytest.fixture(params=["local", "packaged"])
def guarded(request, emulator):
    return request.getfixturevalue(request.param)


def link(door, **fields):
    answer = requests.post(f"{door}/links", json=fields, headers=AUTHORIZED, timeout=30)
    assert answer.status_code == 201, answer.text
    return answer.json()["url"].partition("?link=")[2]


def is_picture(answer):
    return Image.open(io.BytesIO(answer.content)).format == "PNG"


def test_a_key_opens_the_door_and_nothing_else_does(guarded, emulator):
    url = f"{guarded}/inference/a%20cat?seed=1"

    assert is_picture(requests.get(url, headers=AUTHORIZED, timeout=30))
    assert is_picture(requests.get(url, auth=("anybody", KEY), timeout=30))
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"x-api-key": KEY[:-1]}):
        assert requests.get(url, headers=headers, timeout=30).status_code == 401
    assert emulator.runs(ENDPOINT) == 2


def test_a_browser_signs_in_and_out(guarded):
    url, session = f"{guarded}/inference/a%20cat?seed=1", requests.Session()
    signed_in = session.post(f"{guarded}/session", json={"key": KEY}, timeout=30)
    # A browser sends a Secure cookie to 127.0.0.1; this library does so over HTTPS alone.
    for cookie in session.cookies:
        cookie.secure = False

    assert signed_in.status_code == 204
    assert "HttpOnly; SameSite=Lax" in signed_in.headers["Set-Cookie"]
    assert is_picture(session.get(url, timeout=30))
    assert session.delete(f"{guarded}/session", timeout=30).status_code == 204
    assert not list(session.cookies)
    assert session.get(url, timeout=30).status_code == 401


def test_openais_library_is_told_what_is_wrong(guarded):
    ask = {"prompt": "a cat", "model": "sd"}
    known = openai.OpenAI(base_url=f"{guarded}/v1", api_key=KEY)
    unknown = openai.OpenAI(base_url=f"{guarded}/v1", api_key="none")

    assert known.images.generate(**ask).data[0].b64_json
    with pytest.raises(openai.AuthenticationError) as refused:
        unknown.images.generate(**ask)
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.BadRequestError) as filtered:
        known.images.generate(**{**ask, "prompt": "p0rn"})
    assert filtered.value.code == "moderation_blocked"


def test_the_url_in_openais_dialect_needs_no_key(guarded):
    client = openai.OpenAI(base_url=f"{guarded}/v1", api_key=KEY)
    for model in ("sd", "sdxl"):
        answer = client.images.generate(prompt="a dog", model=model, response_format="url")
        # The emulated API Gateway calls itself HTTPS, as the real one does.
        url = answer.data[0].url.replace("https://127", "http://127")

        assert is_picture(requests.get(url, timeout=30))
        assert requests.get(url.partition("link=")[0], timeout=30).status_code == 401


def test_exactly_so_many_of_50_parallel_visits_paint_with_a_link(guarded, emulator):
    token = link(guarded, pictures=5)

    def visit(number):
        url = f"{guarded}/inference/a%20cat?seed={number}&link={token}"
        return requests.get(url, timeout=60).status_code

    with ThreadPoolExecutor(50) as pool:
        statuses = list(pool.map(visit, range(50)))

    # API Gateway answers 500 by itself where Lambda runs as many functions as it may.
    assert set(statuses) <= {200, 429, 500}
    assert statuses.count(200) == emulator.runs(ENDPOINT) == 5


def test_a_slow_picture_costs_a_friend_one_picture_however_many_hops(guarded, emulator):
    token = link(guarded, pictures=1)
    # A prompt of its own for either door: what exists already costs nothing.
    url = f"{guarded}/inference/{uuid.uuid4()}?model=sdxl&seed=3&link={token}"
    with emulator.fault(ASYNC_ENDPOINT, "slow", seconds=6):
        first = requests.get(url, timeout=60)

    assert first.history
    assert is_picture(first)
    assert is_picture(requests.get(url, timeout=30))
    other = requests.get(url.replace("seed=3", "seed=4"), timeout=30)
    assert other.status_code == 429
    assert int(other.headers["Retry-After"]) > 0


def test_a_link_in_a_browser_leads_to_the_page_and_paints(guarded):
    session = requests.Session()
    page = session.get(f"{guarded}/?link={link(guarded, pictures=1)}", headers=BROWSER, timeout=30)
    for cookie in session.cookies:
        cookie.secure = False

    assert page.url == f"{guarded}/"
    assert "<form" in page.text
    assert is_picture(session.get(f"{guarded}/inference/a%20cat?seed=5", timeout=30))
    assert session.get(f"{guarded}/inference/a%20cat?seed=6", timeout=30).status_code == 429


def test_another_sites_script_is_let_in_where_it_is_named(guarded):
    asking = {
        "Origin": FRIEND,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    for path in ("jobs", "inference/a%20cat", "v1/images/generations", "session"):
        answer = requests.options(f"{guarded}/{path}", headers=asking, timeout=30)
        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
        assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    stranger = {**asking, "Origin": "https://evil.example"}
    answer = requests.options(f"{guarded}/jobs", headers=stranger, timeout=30)
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_crawler_costs_nothing(guarded, emulator):
    token = link(guarded, pictures=1)
    headers = {"User-Agent": "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)"}
    url = f"{guarded}/inference/a%20cat?seed=1&link={token}"
    answer = requests.get(url, headers=headers, timeout=30)

    assert '<meta property="og:title" content="a cat">' in answer.text
    assert emulator.requests() == []


def test_a_refused_picture_is_a_400_in_every_dialect_and_from_the_queue(guarded, emulator):
    refusal = {"error": {"code": "moderation_blocked", "message": "Not fit to show."}}
    fault = {"status": 422, "body": json.dumps(refusal)}
    asked = [
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
        for method, path, body in asked:
            url = f"{guarded}/{path}"
            answer = requests.request(method, url, json=body, headers=AUTHORIZED, timeout=60)
            assert answer.status_code == 400, path
            assert "moderation_blocked" in answer.text
            assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.browser
def test_a_person_signs_in_on_the_page_and_the_address_bar_paints_as_well(page, local, emulator):
    studio = Studio(page, local).open()
    studio.ask("a red apple")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("Key", exact=True).fill(KEY)
    page.get_by_label("Key", exact=True).press("Enter")

    expect(studio.picture).to_be_visible()
    assert page.goto(f"{local}/inference/a%20pear?seed=1").headers["content-type"] == "image/png"
    assert page.context.cookies()[0]["httpOnly"]
    assert emulator.runs(ENDPOINT) == 2


@pytest.mark.browser
def test_a_friend_with_a_link_paints_on_the_page(page, local, emulator):
    page.goto(f"{local}/?link={link(local, pictures=1)}")
    studio = Studio(page, local)
    studio.ask("a red apple")
    expect(studio.picture).to_be_visible()

    assert page.url == f"{local}/"
    assert emulator.runs(ENDPOINT) == 1
