"""The door: keys, sessions and links, right and wrong."""

import base64
import json
import time
from pathlib import Path

import pytest

import app as gateway
from chalicelib.access_settings import Protection
from chalicelib.auth import authenticate, tokens
from chalicelib.generation import GenerationRequest
from chalicelib.images.resolved_request import complete, job_id
from tests.gateway.doubles import (
    BROWSER,
    KEY,
    ORIGIN,
    OTHER_KEY,
    SECRET,
    GuardedClient,
    cookies_of,
    error_of,
    guarded,
    key,
)

PICTURE = "/inference/a%20cat?seed=7"
# None of these generates a picture or shows what other callers generated.
PUBLIC_ROUTES = {
    "/",
    "/sentence",
    "/options",
    "/health",
    "/session",
    "/robots.txt",
    "/docs",
    "/openapi.json",
    "/v1/models",
    "/v1/models/{name}",
}


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


def is_guarded(client, path, method):
    return client.request(method, path.replace("{", "").replace("}", "")).status_code == 401


def test_every_route_requires_a_key_except_the_public_ones(client):
    for path, methods in gateway.app.routes.items():
        for method in set(methods) - {"OPTIONS"}:
            assert is_guarded(client, path, method) == (path not in PUBLIC_ROUTES), (method, path)
    assert (client.generated, client.queued) == (0, 0)


def test_without_keys_every_caller_is_accepted(monkeypatch):
    client = GuardedClient(monkeypatch, Protection())

    assert client.get(PICTURE).status_code == 200
    assert client.get(PICTURE, Authorization="Bearer none").status_code == 200
    assert client.get(PICTURE + "&link=old").status_code == 200
    assert json.loads(client.get("/options").body)["access"] == "open"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY}"},
        {"x-api-key": KEY},
        {"X-Api-Key": f" {KEY} "},
        {"Authorization": basic(f"anybody:{KEY}")},
        {"Authorization": basic(f":{KEY}")},
    ],
)
def test_a_key_opens_the_door_wherever_clients_put_it(client, headers):
    assert client.get(PICTURE, **headers).status_code == 200
    assert client.generated == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer none"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": f"Bearer {KEY.upper()}"},
        {"Authorization": f"Digest {KEY}"},
        {"Authorization": KEY},
        {"Authorization": basic(KEY)},
        {"Authorization": basic(f"{KEY}:anybody")},
        {"Authorization": "Basic ****"},
        {"Authorization": "Basic /w=="},
        {"x-api-key": ""},
        {"x-api-key": "x" * 5_000},
        {"x-api-key": "ключ"},
        {"x-api-key": OTHER_KEY, "Authorization": f"Bearer {KEY}"},
        {"Cookie": f"easel_session={KEY}"},
        {"Cookie": "easel_session=v1.e30.AAAA; easel_link=v1.e30.AAAA"},
        {"Cookie": ";;=;easel_session"},
    ],
)
def test_a_missing_or_wrong_key_is_a_401_before_any_gpu_time(client, headers):
    response = client.get(PICTURE, **headers)

    assert response.status_code == 401
    assert error_of(response)["code"] == "unauthorized"
    assert client.generated == 0


def test_an_expired_key_is_refused(monkeypatch):
    soon = key(expires=time.time() + 100)
    gone = key("old", OTHER_KEY, expires=time.time() - 1)
    client = GuardedClient(monkeypatch, guarded(keys=(soon, gone)))

    assert client.get(PICTURE, x_api_key=KEY).status_code == 200
    assert client.get(PICTURE, x_api_key=OTHER_KEY).status_code == 401


def test_a_wrong_key_is_reported_to_openais_libraries_in_openais_format(client):
    response = client.post("/v1/images/generations", {"prompt": "a cat"}, x_api_key="wrong")

    assert response.status_code == 401
    assert error_of(response)["code"] == "invalid_api_key"
    assert error_of(response)["type"] == "invalid_request_error"


def test_a_browser_without_a_key_gets_a_page(client):
    response = client.get(PICTURE, **BROWSER)

    assert response.status_code == 401
    assert b"Sign in" in response.body


# --- Sessions -------------------------------------------------------------------------------------


def test_a_browser_signs_in_once_and_generates_without_the_key(client):
    response = client.post("/session", {"key": KEY})
    (cookie,) = response.headers["Set-Cookie"]

    assert response.status_code == 204
    assert "; HttpOnly; SameSite=Lax" in cookie
    assert KEY not in cookie
    assert client.get(PICTURE, Cookie=f"other=1; {cookies_of(response)}; x").status_code == 200


def test_the_cookie_requires_https_behind_https(client):
    response = client.post("/session", {"key": KEY}, X_Forwarded_Proto="https")

    assert response.headers["Set-Cookie"][0].endswith("; Secure")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"key": 7}', b'{"key": ""}'])
def test_signing_in_without_a_key_is_a_400(client, body):
    assert client.request("POST", "/session", body).status_code == 400


@pytest.mark.parametrize(
    "path", [PICTURE, "/jobs/slow-1", "/v1/images/generations/slow-1", "/sdapi/v1/options"]
)
def test_a_401_says_how_to_authenticate_in_its_header_and_in_its_body(client, path):
    program = client.get(path, User_Agent="Wget/1.25")
    # A browser shows a window of its own for Basic, where the page has a better one.
    browser = client.get(path, Sec_Fetch_Mode="cors", Accept="*/*")

    assert program.headers["WWW-Authenticate"] == 'Bearer realm="Easel", Basic realm="Easel"'
    assert browser.headers["WWW-Authenticate"] == 'Bearer realm="Easel"'
    for way in (b"`x-api-key: KEY`", b"`Authorization: Bearer KEY`", b"HTTP Basic"):
        assert way in program.body
        assert way not in browser.body
    assert b"An API key is required." in browser.body


def test_a_401_in_a_browser_has_the_sign_in_on_it(client):
    page = client.get(PICTURE, **BROWSER)

    assert page.status_code == 401
    assert b'<form id="sign-in">' in page.body
    assert b'type="password"' in page.body
    assert "script-src 'sha256-" in page.headers["Content-Security-Policy"]


def test_signing_in_with_a_wrong_key_is_a_401_and_no_cookie(client):
    response = client.post("/session", {"key": OTHER_KEY})

    assert response.status_code == 401
    assert "Set-Cookie" not in response.headers


def test_where_no_key_is_needed_signing_in_does_nothing(monkeypatch):
    response = GuardedClient(monkeypatch, Protection()).post("/session", {"key": "anything"})

    assert response.status_code == 204
    assert "Set-Cookie" not in response.headers


def test_signing_out_takes_both_cookies_back(client):
    response = client.request("DELETE", "/session", Cookie=client.sign_in())

    assert response.status_code == 204
    assert [each.split("=")[0] for each in response.headers["Set-Cookie"]] == [
        "easel_session",
        "easel_link",
    ]
    assert all("; Max-Age=0;" in each for each in response.headers["Set-Cookie"])


def test_a_session_ends_with_its_key_and_with_a_new_key_of_that_name(monkeypatch):
    cookie = GuardedClient(monkeypatch, guarded()).sign_in()
    gone = GuardedClient(monkeypatch, guarded(keys=(key("bob", OTHER_KEY),)))
    renewed = GuardedClient(monkeypatch, guarded(keys=(key("ada", OTHER_KEY),)))
    expired = GuardedClient(monkeypatch, guarded(keys=(key(expires=time.time() - 1),)))

    for client in (gone, renewed, expired):
        assert client.get(PICTURE, Cookie=cookie).status_code == 401


def test_a_session_ends_after_30_days_or_with_its_key(monkeypatch):
    now = time.time()
    value, seconds = authenticate.new_session(guarded(), key(), now)
    _, short = authenticate.new_session(guarded(), key(expires=now + 50), now)

    assert (seconds, short) == (30 * 86_400, 50)
    assert tokens.verify([SECRET], "session", value)["exp"] == int(now + seconds)
    old, _ = authenticate.new_session(guarded(), key(), now - 31 * 86_400)
    client = GuardedClient(monkeypatch, guarded())
    assert client.get(PICTURE, Cookie=f"easel_session={old}").status_code == 401


def test_a_secret_is_changed_without_signing_anybody_out(monkeypatch):
    cookie = GuardedClient(monkeypatch, guarded()).sign_in()
    rotated = GuardedClient(monkeypatch, guarded(secrets=(b"n" * 43, SECRET)))
    forgotten = GuardedClient(monkeypatch, guarded(secrets=(b"n" * 43,)))

    assert rotated.get(PICTURE, Cookie=cookie).status_code == 200
    assert forgotten.get(PICTURE, Cookie=cookie).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Origin": ORIGIN}, 202),
        ({"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Origin": "https://evil.example"}, 401),
        ({"Origin": "null"}, 401),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, 401),
        ({"Sec-Fetch-Site": "same-site"}, 401),
    ],
)
def test_a_session_is_of_no_use_to_another_sites_page(client, headers, status):
    cookie = client.sign_in()
    body = {"prompt": "a cat", "model": "slow", "seed": 1}
    response = client.post("/jobs", body, Cookie=cookie, Host="localhost", **headers)

    assert response.status_code == status
    assert client.queued == (status == 202)


NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize("kind", ["session", "link"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("headers", "is_served"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors"}, True),
        ({"Sec-Fetch-Site": "none", **NAVIGATION}, True),
        ({"Sec-Fetch-Site": "cross-site", **NAVIGATION}, True),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://app.example"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://b.example"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "image"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, False),
        ({"Sec-Fetch-Site": "same-site", **NAVIGATION, "Sec-Fetch-Dest": "iframe"}, False),
        ({"Sec-Fetch-Site": "same-site", **NAVIGATION, "Sec-Fetch-Dest": "object"}, False),
        ({"Sec-Fetch-Site": "nonsense"}, False),
    ],
)
def test_a_page_elsewhere_spends_no_cookie_by_reading(
    monkeypatch, headers, is_served, method, kind
):
    client = GuardedClient(monkeypatch, guarded(origins=("https://app.example",)))
    cookie = client.sign_in() if kind == "session" else f"easel_link={client.link(pictures=9)}"
    response = client.request(method, PICTURE, Cookie=cookie, Host="localhost", **headers)

    assert response.status_code == (200 if is_served else 401)
    assert client.generated == (is_served and method == "GET")


def test_a_key_in_a_header_or_a_link_in_the_url_may_come_from_any_page(client):
    elsewhere = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}

    assert client.get(PICTURE, x_api_key=KEY, **elsewhere).status_code == 200
    assert client.get(f"{PICTURE}&link={client.link()}", **elsewhere).status_code == 200


def test_another_site_cannot_sign_a_browser_in_or_out(client):
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}

    assert client.post("/session", {"key": KEY}, **headers).status_code == 401
    assert client.request("DELETE", "/session", **headers).status_code == 401


def test_a_key_in_a_header_is_the_clients_own_doing_and_goes_before_cookies(client):
    headers = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    body = {"prompt": "a cat", "model": "slow", "seed": 1}

    assert client.post("/jobs", body, x_api_key=KEY, **headers).status_code == 202
    wrong = client.get(PICTURE, x_api_key="wrong", Cookie=client.sign_in())
    assert wrong.status_code == 401


# --- Links ----------------------------------------------------------------------------------------


def test_a_link_opens_the_door_until_it_expires(client):
    now = time.time()
    token, link = authenticate.new_link(guarded(), key(), 60, None, now)
    old, _ = authenticate.new_link(guarded(), key(), 60, None, now - 61)

    assert link.expires == int(now + 60)
    assert client.get(f"{PICTURE}&link={token}").status_code == 200
    assert client.get(f"{PICTURE}&link={old}").status_code == 401
    assert client.get(PICTURE, Cookie=f"easel_link={token}").status_code == 200


def test_a_link_dies_with_the_key_that_made_it(monkeypatch):
    token = GuardedClient(monkeypatch, guarded()).link(pictures=None)
    other = GuardedClient(monkeypatch, guarded(keys=(key("bob", OTHER_KEY),)))

    assert other.get(f"{PICTURE}&link={token}").status_code == 401


def test_a_changed_token_is_refused(client):
    token = client.link(pictures=1)
    version, payload, mac = token.split(".")
    richer = json.loads(base64.urlsafe_b64decode(payload + "=="))
    richer["n"] = 1_000
    forged = base64.urlsafe_b64encode(json.dumps(richer).encode()).decode().rstrip("=")
    attempts = [
        f"{version}.{forged}.{mac}",
        f"{version}.{payload}.",
        f"{version}.{payload}.{mac[:-2]}AA",
        f"v0.{payload}.{mac}",
        f"{payload}.{mac}",
        f"{token}.{mac}",
        "",
        "v1..",
        "%00",
        "x" * 3_000,
        tokens.sign(b"another secret " * 3, "link", richer),
        tokens.sign(SECRET, "session", richer),
    ]

    for attempt in attempts:
        assert client.get(f"{PICTURE}&link={attempt}").status_code == 401, attempt
    assert client.get(f"{PICTURE}&link={token}&link={token}").status_code == 401
    assert client.generated == 0


def test_a_session_cannot_be_used_as_a_link_nor_a_link_as_a_session(client):
    token = client.link(pictures=None)
    session = client.sign_in().partition("=")[2]

    assert client.get(f"{PICTURE}&link={session}").status_code == 401
    assert client.get(PICTURE, Cookie=f"easel_session={token}").status_code == 401


def test_an_address_of_one_picture_opens_that_picture_alone(client):
    order = {"prompt": "a cat", "seed": 7, "response_format": "url"}
    response = client.post("/v1/images/generations", order, x_api_key=KEY)
    url = json.loads(response.body)["data"][0]["url"].partition("localhost")[2]
    url = url[url.index("/inference") :]
    token = url.partition("link=")[2]

    assert client.generated == 0
    assert client.get(url).status_code == 200
    assert client.get(url.replace("a%20cat", "a%20dog")).status_code == 401
    assert client.get(url.replace("seed=7", "seed=8")).status_code == 401
    assert client.post(f"/jobs?link={token}", {"prompt": "a cat"}).status_code == 401
    assert client.post(f"/links?link={token}", {}).status_code == 401
    assert client.generated == 1


@pytest.mark.parametrize("model", ["sd", "slow"])
def test_the_address_of_a_picture_reveals_nothing_of_another(client, model):
    order = {"prompt": "a cat", "seed": 7, "model": "sd", "response_format": "url"}
    response = client.post("/v1/images/generations", order, x_api_key=KEY)
    token = json.loads(response.body)["data"][0]["url"].partition("link=")[2]
    dog = f"/inference/a%20dog?seed=7&model={model}"
    head = client.request("HEAD", dog, x_api_key=KEY)
    generation = GenerationRequest(prompt="a dog", seed=7, model=model)
    picture = job_id(complete(client.settings, generation), client.settings.models[model].revision)

    assert head.status_code == 200
    guest = f"{dog}&link={token}"
    assert client.request("HEAD", guest).status_code == 401
    assert client.get(guest, If_None_Match=f'"{picture}"').status_code == 401
    assert client.get(guest, Sec_Purpose="prefetch").status_code == 401
    assert client.get(guest, User_Agent="Slackbot").status_code == 401


def test_the_address_of_a_queued_picture_opens_its_job_alone(client):
    order = {"prompt": "a cat", "seed": 7, "model": "slow", "response_format": "url"}
    response = client.post("/v1/images/generations", order, x_api_key=KEY)
    url = json.loads(response.body)["data"][0]["url"]
    url = url[url.index("/jobs") :]
    token = url.partition("link=")[2]

    response = client.get(url, Prefer="respond-async")
    assert response.status_code == 202
    assert client.get(f"/jobs/slow-{'0' * 32}?link={token}").status_code == 401
    assert client.queued == 1


def test_only_the_service_makes_the_requests_that_it_accepts():
    """So that no route can look a picture up without the check of its address."""
    code = Path(authenticate.__file__).parents[1]
    makers = [path for path in code.rglob("*.py") if "ResolvedRequest(" in path.read_text()]

    assert makers == [code / "images" / "service.py"]
