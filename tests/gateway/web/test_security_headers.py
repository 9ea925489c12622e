"""The headers of every answer."""

import pytest

from chalicelib.web.security_headers import add_security_headers
from tests.gateway.doubles import BROWSER, KEY, GuardedClient, guarded

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


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_answer_carries_them(guarded_client, kind):
    method, path, headers = EVERY_KIND[kind]
    response = guarded_client.request(method, path, **headers).headers

    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] in {"no-referrer", "same-origin"}
    assert response["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "camera=()" in response["Permissions-Policy"]
    assert response["Cache-Control"]
    assert response["Cross-Origin-Resource-Policy"] in {"same-origin", "cross-origin"}
    assert "Strict-Transport-Security" not in response


def test_browsers_are_told_to_use_https_behind_https(guarded_client):
    response = guarded_client.get("/options", X_Forwarded_Proto="https")

    assert response.headers["Strict-Transport-Security"] == "max-age=63072000"


def test_other_sites_can_embed_a_picture_and_no_index_lists_it(guarded_client):
    response = guarded_client.get("/inference/a?seed=1", x_api_key=KEY).headers

    assert response["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert response["X-Robots-Tag"] == "noindex"
    assert response["Content-Security-Policy"].endswith("; sandbox")


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/inference", BROWSER),
        ("GET", "/inference?prompt=a+cat", {}),
        ("HEAD", "/inference?prompt=a+cat", {}),
    ],
)
def test_an_image_of_another_site_can_follow_a_redirect(guarded_client, method, path, headers):
    response = guarded_client.request(method, path, **{**headers, "x-api-key": KEY})

    assert response.headers["Location"]
    assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


@pytest.mark.parametrize("address", ["/api/jobs/a-1/image?hop=1", "https://bucket.example/picture"])
@pytest.mark.parametrize("name", ["Location", "location"])
def test_whatever_the_redirect_leads_to(name, address):
    headers = {name: address, "Content-Type": "text/plain"}
    add_security_headers(headers, {})

    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_a_pages_own_policy_is_kept(guarded_client):
    assert "script-src 'sha256-" in guarded_client.get("/").headers["Content-Security-Policy"]


def test_all_headers_together_fit_api_gateway(monkeypatch):
    client = GuardedClient(monkeypatch, guarded(origins=("https://friend.example",), per_minute=5))
    path = "/inference/" + "%F0%9F%90%88" * 640
    headers = {"x-api-key": KEY, "Origin": "https://friend.example", "X-Forwarded-Proto": "https"}
    response = client.get(path, **headers)

    assert sum(len(name) + len(value) + 4 for name, value in response.headers.items()) < 10_240
