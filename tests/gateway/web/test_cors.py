"""Other sites' scripts."""

import pytest

import app as gateway
from tests.gateway.guarded import KEY, Guest, guarded

FRIEND = "https://friend.example"
PREFLIGHT = {
    "Origin": FRIEND,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
}


def guest(monkeypatch, *origins, **more):
    return Guest(monkeypatch, guarded(origins=origins, **more))


def cors_of(answer):
    return {name for name in answer.headers if name.startswith("Access-Control")}


def test_by_default_no_other_site_reads_anything(monkeypatch):
    visitor = guest(monkeypatch)

    assert cors_of(visitor.get("/options", Origin=FRIEND)) == set()
    assert cors_of(visitor.visit("OPTIONS", "/options", **PREFLIGHT)) == set()


def test_every_route_answers_a_preflight_without_a_key(monkeypatch):
    visitor = guest(monkeypatch, FRIEND)
    for path, methods in gateway.app.routes.items():
        answer = visitor.visit("OPTIONS", path.replace("{", "").replace("}", ""), **PREFLIGHT)

        assert "OPTIONS" in methods
        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
        assert answer.headers["Access-Control-Allow-Headers"].startswith("authorization,")
        assert set(methods) - {"OPTIONS"} <= set(
            answer.headers["Access-Control-Allow-Methods"].split(", ")
        )


def test_a_site_that_is_named_reads_answers_and_errors_with_cookies(monkeypatch):
    visitor = guest(monkeypatch, FRIEND, "http://localhost:5173")
    for answer in (
        visitor.get("/inference/a?seed=1", Origin=FRIEND, x_api_key=KEY),
        visitor.get("/inference/a?seed=1", Origin=FRIEND),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "X-Seed" in answer.headers["Access-Control-Expose-Headers"]
        assert answer.headers["Vary"] == "Origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


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
    visitor = guest(monkeypatch, FRIEND)
    answer = visitor.get("/inference/a?seed=1", Origin=origin, x_api_key=KEY)
    preflight = visitor.visit("OPTIONS", "/jobs", **{**PREFLIGHT, "Origin": origin})

    assert cors_of(answer) | cors_of(preflight) == set()
    assert answer.headers["Vary"] == "Origin"


def test_any_site_may_read_but_never_with_cookies(monkeypatch):
    answer = guest(monkeypatch, "*").get("/options", Origin="https://anyone.example")

    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_any_site_is_not_a_site_that_a_session_trusts(monkeypatch):
    visitor = guest(monkeypatch, "*")
    body = {"prompt": "a", "model": "slow"}
    answer = visitor.post("/jobs", body, Cookie=visitor.sign_in(), Origin="*")

    assert answer.status_code == 401


def test_a_named_sites_page_may_use_a_session(monkeypatch):
    visitor = guest(monkeypatch, FRIEND)
    body = {"prompt": "a", "model": "slow", "seed": 1}
    headers = {"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"}

    assert visitor.post("/jobs", body, Cookie=visitor.sign_in(), **headers).status_code == 202


def test_odd_header_names_are_not_repeated(monkeypatch):
    asked = {**PREFLIGHT, "Access-Control-Request-Headers": "x y: <b>, \u00e9"}
    answer = guest(monkeypatch, FRIEND).visit("OPTIONS", "/jobs", **asked)

    assert "Access-Control-Allow-Headers" not in answer.headers
