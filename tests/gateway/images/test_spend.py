"""The monthly cap at the gateway, in every dialect; and who wakes an endpoint, by HTTP."""

import json
import time
from contextlib import nullcontext
from dataclasses import replace

import pytest

from chalicelib.images.service import ImageService
from tests.gateway.doubles import BROWSER, KEY, GuardedClient, Provided, guarded, refusal

REACHED = {"usd": 20.5, "cap_usd": 20.0, "state": "reached"}


@pytest.fixture
def client(monkeypatch):
    """A gateway with a key, whose month the guard counts."""
    client = GuardedClient(monkeypatch, guarded())
    client.settings = replace(client.settings, spend=("bucket", "spend/"))
    client.service = ImageService(
        client.settings, Provided(client.runtime), Provided(client.bucket)
    )
    return client


def count(client, **counted):
    month = time.strftime("%Y-%m", time.gmtime())
    body = json.dumps({"month": month, **REACHED, **counted}).encode()
    client.bucket.objects[f"spend/{month}.json"] = body


def test_at_the_cap_nothing_is_generated_in_any_dialect_and_the_reason_is_said(client):
    count(client)
    easel = client.get("/inference/a%20cat", x_api_key=KEY)
    asked = json.dumps({"prompt": "a cat"}).encode()
    headers = {"x_api_key": KEY, "Content-Type": "application/json"}
    openai = client.request("POST", "/v1/images/generations", asked, **headers)
    web_ui = client.request("POST", "/sdapi/v1/txt2img", asked, **headers)
    slow = json.dumps({"prompt": "a cat", "model": "slow"}).encode()
    queued = client.request("POST", "/jobs", slow, **headers)
    for response in (easel, openai, web_ui, queued):
        assert response.status_code == 402, response.body
        assert b"monthly cap of 20.00 USD is reached" in response.body
        assert 0 < int(response.headers["Retry-After"]) <= 31 * 86_400
    assert openai.json_body["error"]["type"] == "insufficient_quota"
    assert easel.json_body["error"]["code"] == "monthly_cap_reached"
    page = client.get("/inference/a%20cat", x_api_key=KEY, **BROWSER)
    assert b"monthly cap" in page.body
    assert client.runtime.asked == []


@pytest.mark.parametrize("state", ["under", "warned"])
def test_below_the_cap_everything_works(client, state):
    count(client, state=state)
    assert client.get("/inference/a%20cat", x_api_key=KEY).status_code == 200


def test_nothing_counted_yet_refuses_nothing_and_is_read_once_a_minute(client):
    assert client.get("/inference/a%20cat", x_api_key=KEY).status_code == 200
    count(client)
    assert client.get("/inference/a%20dog", x_api_key=KEY).status_code == 200


def test_a_count_that_cannot_be_read_refuses_nothing(client):
    client.bucket.objects[f"spend/{time.strftime('%Y-%m', time.gmtime())}.json"] = b"{"
    assert client.get("/inference/a%20cat", x_api_key=KEY).status_code == 200


def test_a_count_that_s3_does_not_return_refuses_nothing(client):
    client.bucket.get_object = lambda **_: _raise(refusal("SlowDown"))
    assert client.get("/inference/a%20cat", x_api_key=KEY).status_code == 200


def _raise(error):
    raise error


class _Leases:
    """Notes whose requests may wake an endpoint."""

    def __init__(self):
        self.wakes = []

    def used(self, model, *, wakes):
        self.wakes.append(wakes)
        return nullcontext()


def test_only_a_key_that_means_to_see_a_picture_wakes_an_endpoint(client):
    leases = _Leases()
    client.service = ImageService(
        client.settings, Provided(client.runtime), Provided(client.bucket), leases
    )
    client.get("/inference/a%20cat", x_api_key=KEY)
    client.get("/inference/a%20cat", x_api_key=KEY, Sec_Purpose="prefetch;prerender")
    client.get("/inference/a%20cat", x_api_key=KEY, Purpose="prefetch")
    client.get("/inference/a%20cat", x_api_key=KEY, User_Agent="Slackbot-LinkExpanding 1.0")
    client.request("HEAD", "/inference/a%20cat", x_api_key=KEY)
    # The others do not even start a run.
    assert leases.wakes == [True]
