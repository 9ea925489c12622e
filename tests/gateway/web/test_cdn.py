"""CloudFront in front of the gateway: what it may keep, and whom the gateway believes."""

import json
import subprocess

import pytest

from chalicelib.access_settings import Protection
from chalicelib.web.cdn import as_sent
from chalicelib.web.request import Request
from endpoint.provision.gateway.cdn import TEMPLATE
from tests.browsers.launch import find, missing
from tests.gateway.caching import HOST, Cdn
from tests.gateway.doubles import (
    KEY,
    OTHER_KEY,
    GuardedClient,
    guarded,
    key,
)
from tests.policies.role_policies import read_template

SECRET = "c" * 43
PLACE = ("bucket", "pictures/sd/")
FIXED, RANDOM = "/inference/a%20cat?seed=1", "/inference/a%20cat"


def behind(monkeypatch, protection):
    client = GuardedClient(monkeypatch, protection, pictures=PLACE)
    return Cdn(client.request, SECRET), client


@pytest.fixture
def open_cdn(monkeypatch):
    return behind(monkeypatch, Protection(cdn=SECRET.encode(), per_minute=3))


@pytest.fixture
def keyed_cdn(monkeypatch):
    keys = (key(), key("bob", OTHER_KEY))
    return behind(monkeypatch, guarded(keys=keys, cdn=SECRET.encode()))


def test_a_fixed_url_is_asked_for_once_and_a_random_one_each_time(open_cdn):
    cdn, client = open_cdn
    fixed = [cdn.get(FIXED) for _ in range(5)]
    random = [cdn.get(RANDOM) for _ in range(2)]

    assert {each.status_code for each in (*fixed, *random)} == {200}
    assert len({each.body for each in fixed}) == 1
    assert cdn.passed == [FIXED, RANDOM, RANDOM]
    assert client.generated == 3


def test_every_parameter_is_another_picture(open_cdn):
    cdn, _ = open_cdn
    paths = [FIXED, f"{FIXED}&steps=9", f"{FIXED}&format=webp"]
    for path in paths * 2:
        cdn.get(path)

    assert cdn.passed == paths


def test_whoever_has_a_kept_picture_is_told_so_without_the_gateway(open_cdn):
    cdn, _ = open_cdn
    tag = cdn.get(FIXED).headers["ETag"]

    assert cdn.get(FIXED, if_none_match=tag).status_code == 304
    assert cdn.passed == [FIXED]


@pytest.mark.parametrize("path", ["/", "/options", "/inference/a?seed=x", "/jobs/none", "/nothing"])
def test_pages_lists_and_errors_are_not_kept(open_cdn, path):
    cdn, _ = open_cdn
    for _ in range(2):
        cdn.get(path)

    assert cdn.passed == [path] * 2
    assert cdn.kept == {}


def test_head_is_not_taken_for_a_picture(open_cdn):
    cdn, _ = open_cdn
    cdn.request("HEAD", FIXED)

    assert cdn.get(FIXED).body.startswith(b"\x89PNG")


def test_what_a_key_a_session_or_a_link_opened_is_kept_for_nobody(keyed_cdn):
    cdn, client = keyed_cdn
    token = client.link(pictures=1)
    ways = [
        {"x_api_key": KEY},
        {"authorization": f"Bearer {OTHER_KEY}"},
        {"cookie": client.sign_in()},
    ]
    for headers in ways * 2:
        assert cdn.get(FIXED, **headers).status_code == 200
    for _ in range(2):
        assert cdn.get(f"{FIXED}&link={token}").status_code == 200

    assert cdn.get(FIXED).status_code == 401
    assert cdn.kept == {}
    assert client.generated == 1


def test_a_refusal_is_not_repeated_to_those_who_may(keyed_cdn):
    cdn, _ = keyed_cdn

    assert cdn.get(FIXED).status_code == 401
    assert cdn.get(FIXED, x_api_key=KEY).status_code == 200
    assert cdn.get(FIXED, x_api_key="wrong").status_code == 401


def test_a_deleted_picture_is_gone_behind_it_as_well(keyed_cdn):
    cdn, client = keyed_cdn
    for _ in range(2):
        cdn.get(FIXED, x_api_key=KEY)
        assert cdn.request("DELETE", FIXED, x_api_key=KEY).status_code == 204

    assert client.generated == 2


def test_each_viewer_has_limits_of_its_own(open_cdn):
    cdn, _ = open_cdn
    first = [cdn.get(RANDOM, viewer="203.0.113.1").status_code for _ in range(4)]
    second = cdn.get(RANDOM, viewer="203.0.113.2")

    assert first == [200, 200, 200, 429]
    assert second.status_code == 200


def test_addresses_in_responses_are_the_networks(keyed_cdn):
    cdn, _ = keyed_cdn
    body = json.dumps({"pictures": 1}).encode()
    link = cdn.request("POST", "/links", body=body, x_api_key=KEY)

    assert json.loads(link.body)["url"].split("/")[2] == HOST


def test_nobody_else_is_believed(open_cdn):
    _, client = open_cdn
    made_up = {"x_easel_host": "evil.example", "x_easel_cdn": "d" * 43}
    statuses = [
        client.get(RANDOM, x_easel_viewer=f"203.0.113.{number}", **made_up).status_code
        for number in range(4)
    ]

    assert statuses == [200, 200, 200, 429]


@pytest.mark.parametrize("secret", [None, SECRET.encode()])
@pytest.mark.parametrize("presented", [{}, {"x-easel-cdn": ""}, {"x-easel-cdn": "\udce4"}])
def test_a_request_without_the_secret_stays_as_it_is(secret, presented):
    headers = {**presented, "x-easel-host": "evil.example", "host": "api.example"}
    request = Request("GET", "/", "/", headers, {}, "id", address="192.0.2.1")

    assert as_sent(request, secret) is request


def test_the_function_of_cloudfront_writes_down_the_client():
    node = find("node") or missing("Node.js")
    code = read_template(TEMPLATE)["Resources"]["Viewer"]["Properties"]["FunctionCode"]
    event = {
        "viewer": {"ip": "203.0.113.9"},
        "request": {"headers": {"host": {"value": HOST}, "x-easel-viewer": {"value": "forged"}}},
    }
    script = f"{code}\nconsole.log(JSON.stringify(handler({json.dumps(event)})))"
    done = subprocess.run([node, "-e", script], capture_output=True, text=True, check=True)

    headers = {name: each["value"] for name, each in json.loads(done.stdout)["headers"].items()}
    assert headers == {"host": HOST, "x-easel-host": HOST, "x-easel-viewer": "203.0.113.9"}
