"""The headers of every answer."""

import pytest

from tests.gateway.guarded import KEY, Guest, guarded
from tests.gateway.test_app import BROWSER

EVERY_KIND = {
    "page": ("GET", "/", {}),
    "picture": ("GET", "/inference/a?seed=1", {"x-api-key": KEY}),
    "no key": ("GET", "/inference/a?seed=1", {}),
    "problem page": ("GET", "/inference/a?seed=1", BROWSER),
    "json": ("GET", "/options", {}),
    "bad request": ("GET", "/inference/a?steps=0", {"x-api-key": KEY}),
    "openai": ("POST", "/v1/images/generations", {}),
    "preflight": ("OPTIONS", "/jobs", {}),
    "robots": ("GET", "/robots.txt", {}),
    "no such method": ("PUT", "/jobs", {}),
    "no such job": ("GET", "/jobs/none", {"x-api-key": KEY}),
    "redirect": ("GET", "/inference", {**BROWSER, "x-api-key": KEY}),
    "session": ("DELETE", "/session", {}),
}


@pytest.fixture
def guest(monkeypatch):
    return Guest(monkeypatch, guarded())


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_answer_carries_them(guest, kind):
    method, path, headers = EVERY_KIND[kind]
    answer = guest.visit(method, path, **headers).headers

    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] in {"no-referrer", "same-origin"}
    assert answer["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "camera=()" in answer["Permissions-Policy"]
    assert answer["Cache-Control"]
    assert answer["Cross-Origin-Resource-Policy"] in {"same-origin", "cross-origin"}
    assert "Strict-Transport-Security" not in answer


def test_browsers_are_told_to_stay_with_https_where_there_is_https(guest):
    answer = guest.get("/options", X_Forwarded_Proto="https")

    assert answer.headers["Strict-Transport-Security"] == "max-age=63072000"


def test_a_picture_may_stand_on_other_sites_pages_and_in_no_index(guest):
    answer = guest.get("/inference/a?seed=1", x_api_key=KEY).headers

    assert answer["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer["X-Robots-Tag"] == "noindex"
    assert answer["Content-Security-Policy"].endswith("; sandbox")


def test_a_pages_own_policy_is_kept(guest):
    assert "script-src 'sha256-" in guest.get("/").headers["Content-Security-Policy"]


def test_all_headers_together_fit_api_gateway(monkeypatch):
    guest = Guest(monkeypatch, guarded(origins=("https://friend.example",), per_minute=5))
    path = "/inference/" + "%F0%9F%90%88" * 640
    headers = {"x-api-key": KEY, "Origin": "https://friend.example", "X-Forwarded-Proto": "https"}
    answer = guest.get(path, **headers)

    assert sum(len(name) + len(value) + 4 for name, value in answer.headers.items()) < 10_240
