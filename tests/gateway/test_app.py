"""The routes that are not a dialect, through the whole app."""

import json
import re

import app as gateway
from chalicelib.generation import RULES
from chalicelib.settings import Settings
from tests.gateway.doubles import BROWSER


def test_the_home_page_is_sent_once_and_asked_about_afterwards(client):
    first = client.get("/", **BROWSER)
    again = client.get("/", **BROWSER, **{"If-None-Match": first.headers["ETag"]})

    assert first.headers["Cache-Control"] == "private, no-cache"
    assert (again.status_code, again.body) == (304, b"")
    assert again.headers["Content-Security-Policy"] == first.headers["Content-Security-Policy"]
    assert client.get("/", **BROWSER, **{"If-None-Match": '"old"'}).body == first.body


def test_options_has_the_fields_and_the_models(client):
    described = json.loads(client.get("/options").body)

    assert list(described["fields"]["properties"]) == list(RULES)
    assert [model["name"] for model in described["models"]] == ["sd", "sdxl"]
    unknown = {"asynchronous": False, "defaults": {}, "seconds": None, "loras": []}
    assert described["models"][0] == {"name": "sd", **unknown}


def test_health_has_the_version_and_uses_no_gpu(client):
    described = json.loads(client.get("/health").body)

    assert described["status"] == "ok"
    assert described["models"] == ["sd", "sdxl"]
    assert client.asked == []


def test_the_home_page_is_a_page(client):
    response = client.get("/", **BROWSER)

    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'<base href="/">' in response.body


def test_an_unusable_setting_is_a_500_on_every_route_and_named_in_the_log(client, log, monkeypatch):
    variables = {"EASEL_MODELS": '{"sd": {"endpoint": "e"}}', "EASEL_CORS_ORIGINS": "a.example"}
    monkeypatch.setattr(gateway, "settings", lambda: Settings.from_environment(variables))
    for path, methods in gateway.app.routes.items():
        for method in methods:
            url = re.sub(r"\{\w+\}", "x", path)
            response = client.get(url, method, origin="https://friend.example")
            line = json.loads(log()[-2])

            assert response.status_code == 500, (method, path)
            if method != "HEAD":
                assert b"its log says which" in response.body, (method, path)
            assert (line["message"], line["variable"]) == ("bad setting", "EASEL_CORS_ORIGINS")
            assert "https://example.org" in line["problem"]
