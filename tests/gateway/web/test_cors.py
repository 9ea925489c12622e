"""Other sites' scripts."""

import pytest

import app as gateway
from tests.gateway.doubles import KEY, GuardedClient, guarded

FRIEND = "https://friend.example"
PREFLIGHT = {
    "Origin": FRIEND,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
}


def new_client(monkeypatch, *origins, **more):
    return GuardedClient(monkeypatch, guarded(origins=origins, **more))


def cors_of(response):
    return {name for name in response.headers if name.startswith("Access-Control")}


def test_by_default_no_other_site_reads_anything(monkeypatch):
    client = new_client(monkeypatch)

    assert cors_of(client.get("/options", Origin=FRIEND)) == set()
    assert cors_of(client.request("OPTIONS", "/options", **PREFLIGHT)) == set()


def test_every_route_answers_a_preflight_without_a_key(monkeypatch):
    client = new_client(monkeypatch, FRIEND)
    for path, methods in gateway.app.routes.items():
        response = client.request("OPTIONS", path.replace("{", "").replace("}", ""), **PREFLIGHT)

        assert "OPTIONS" in methods
        assert response.status_code == 204
        assert response.headers["Access-Control-Allow-Origin"] == FRIEND
        assert response.headers["Access-Control-Allow-Headers"].startswith("authorization,")
        assert set(methods) - {"OPTIONS"} <= set(
            response.headers["Access-Control-Allow-Methods"].split(", ")
        )


def test_a_site_that_is_named_reads_answers_and_errors_with_cookies(monkeypatch):
    client = new_client(monkeypatch, FRIEND, "http://localhost:5173")
    for response in (
        client.get("/inference/a?seed=1", Origin=FRIEND, x_api_key=KEY),
        client.get("/inference/a?seed=1", Origin=FRIEND),
    ):
        assert response.headers["Access-Control-Allow-Origin"] == FRIEND
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
        assert "X-Seed" in response.headers["Access-Control-Expose-Headers"]
        assert response.headers["Vary"] == "Origin"
        assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "https://friend.example.evil.example",
        "http://friend.example",
        "https://friend.example:444",
        "https://FRIEND.example",
        "*",
        "",
    ],
)
def test_a_site_that_is_not_named_reads_nothing(monkeypatch, origin):
    client = new_client(monkeypatch, FRIEND)
    response = client.get("/inference/a?seed=1", Origin=origin, x_api_key=KEY)
    preflight = client.request("OPTIONS", "/jobs", **{**PREFLIGHT, "Origin": origin})

    assert cors_of(response) | cors_of(preflight) == set()
    assert response.headers["Vary"] == "Origin"


def test_any_site_can_read_but_never_with_cookies(monkeypatch):
    response = new_client(monkeypatch, "*").get("/options", Origin="https://anyone.example")

    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in response.headers


def test_any_site_is_not_a_site_that_a_session_trusts(monkeypatch):
    client = new_client(monkeypatch, "*")
    body = {"prompt": "a", "model": "slow"}
    response = client.post("/jobs", body, Cookie=client.sign_in(), Origin="*")

    assert response.status_code == 401


def test_a_named_sites_page_can_use_a_session(monkeypatch):
    client = new_client(monkeypatch, FRIEND)
    body = {"prompt": "a", "model": "slow", "seed": 1}
    headers = {"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"}

    assert client.post("/jobs", body, Cookie=client.sign_in(), **headers).status_code == 202


def test_odd_header_names_are_not_repeated(monkeypatch):
    asked = {**PREFLIGHT, "Access-Control-Request-Headers": "x y: <b>, \u00e9"}
    response = new_client(monkeypatch, FRIEND).request("OPTIONS", "/jobs", **asked)

    assert "Access-Control-Allow-Headers" not in response.headers
