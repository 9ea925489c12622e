"""Making links; signing in and out has its tests in test_access.py."""

import json
import time
from datetime import datetime

import pytest

from chalicelib.access_settings import Protection
from tests.gateway.doubles import KEY, GuardedClient, error_of, guarded


def test_a_link_is_an_address_to_be_sent_to_a_friend(client):
    response = client.post(
        "/links", {"pictures": 5, "expires_in": 3_600}, x_api_key=KEY, Host="easel.example"
    )
    described = json.loads(response.body)

    assert response.status_code == 201
    assert described["url"].startswith("http://easel.example/?link=v1.")
    assert described["pictures"] == 5
    assert abs(datetime.fromisoformat(described["expires"]).timestamp() - time.time() - 3_600) < 60
    assert KEY not in response.body.decode()


def test_what_is_not_said_is_ten_pictures_within_a_day(client):
    described = json.loads(client.post("/links", {}, x_api_key=KEY).body)

    assert described["pictures"] == 10
    assert abs(datetime.fromisoformat(described["expires"]).timestamp() - time.time() - 86_400) < 60


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"pictures": 0}, "pictures"),
        ({"pictures": 1_001}, "pictures"),
        ({"pictures": "five"}, "pictures"),
        ({"pictures": "5.5"}, "pictures"),
        ({"pictures": ""}, "pictures"),
        ({"pictures": True}, "pictures"),
        ({"pictures": 1.5}, "pictures"),
        ({"expires_in": 59}, "expires_in"),
        ({"expires_in": 31 * 86_400}, "expires_in"),
        ({"expires_in": None}, "expires_in"),
        ({"more": 1}, "more"),
    ],
)
def test_a_wrong_field_is_named(client, body, field):
    response = client.post("/links", body, x_api_key=KEY)

    assert response.status_code == 400
    assert error_of(response)["field"] == field


@pytest.mark.parametrize("spell", [int, float, str, "{}.0".format])
def test_numbers_are_read_as_everywhere(client, spell):
    body = {"pictures": spell(5), "expires_in": spell(3_600)}
    response = client.post("/links", body, x_api_key=KEY)
    described = json.loads(response.body)

    assert response.status_code == 201
    assert described["pictures"] == 5
    assert abs(datetime.fromisoformat(described["expires"]).timestamp() - time.time() - 3_600) < 60


def test_only_a_key_makes_links(client):
    token = client.link(pictures=5)

    assert client.post("/links", {}).status_code == 401
    assert client.post(f"/links?link={token}", {}).status_code == 401
    assert client.post("/links", {}, Cookie=f"easel_link={token}").status_code == 401
    assert client.post("/links", {}, Cookie=client.sign_in()).status_code == 201


def test_without_a_bucket_a_number_of_pictures_is_refused_with_the_reason(monkeypatch):
    client = GuardedClient(monkeypatch, guarded(accounts=None))
    response = client.post("/links", {"pictures": 5}, x_api_key=KEY)

    assert response.status_code == 400
    assert error_of(response)["field"] == "pictures"
    assert "EASEL_LINKS" in error_of(response)["message"]
    token = client.link(pictures=None)
    assert client.get(f"/inference/a?seed=1&link={token}").status_code == 200


def test_a_link_whose_quota_can_no_longer_be_counted_generates_nothing(monkeypatch, client):
    token = client.link(pictures=5)
    without = GuardedClient(monkeypatch, guarded(accounts=None))

    assert without.get(f"/inference/a?seed=1&link={token}").status_code == 503
    assert without.generated == 0


def test_an_open_gateway_makes_no_links(monkeypatch):
    response = GuardedClient(monkeypatch, Protection()).post("/links", {})

    assert response.status_code == 400
    assert "No link is needed" in error_of(response)["message"]
