"""What was used, shown to the keys that can see it."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.usage_records import Kind, UsageRecord
from tests.gateway.documented import as_documented
from tests.gateway.doubles import BROWSER, KEY, OTHER_KEY, GuardedClient, error_of, guarded, key


@pytest.fixture
def client(monkeypatch):
    keys = (key("ada", owner=True), key("bob", OTHER_KEY, usd_per_month=5))
    return GuardedClient(monkeypatch, guarded(keys=keys), usd_per_hour=3.6)


def day(days_ago):
    return datetime.now(UTC) - timedelta(days=days_ago)


def used(client, name, days_ago=0, usd=0.5, **more):
    record = UsageRecord.now(day(days_ago).timestamp(), "sd", Kind.REALTIME, 2, usd, name, **more)
    client.bucket.objects[f"usage/{record.to_key()}"] = b""


def get(client, path="/usage", text=OTHER_KEY, **headers):
    return client.get(path, x_api_key=text, **headers)


def test_a_key_sees_its_own_and_its_budget(client):
    used(client, "ada")
    used(client, "bob", days_ago=1)
    used(client, "bob", link="0123456789abcdef")
    described = as_documented(json.loads(get(client).body), "Usage")

    assert (described["pictures"], described["gpu_seconds"], described["usd"]) == (2, 4, 1)
    assert [one["key"] for one in described["keys"]] == ["bob"]
    assert [one["link"] for one in described["links"]] == ["0123456789abcdef"]
    assert len(described["days"]) == 30
    assert [one["usd"] for one in described["days"][-2:]] == [0.5, 0.5]
    assert described["owner"] is False
    assert described["budgets"] == [
        {"key": "bob", "usd_per_month": 5, "spent_usd": 0, "reserved_usd": 0}
    ]


def test_the_owners_key_sees_everybodys(client):
    used(client, "ada")
    used(client, "bob", usd=1)
    described = json.loads(get(client, text=KEY).body)

    assert [one["key"] for one in described["keys"]] == ["bob", "ada"]
    assert described["owner"] is True
    assert [one["key"] for one in described["budgets"]] == ["bob"]


def test_a_picture_is_there_as_soon_as_it_was_painted(client):
    client.get("/inference/a%20cat?seed=1", x_api_key=OTHER_KEY)
    described = json.loads(get(client).body)

    assert described["pictures"] == 1
    assert described["budgets"][0]["spent_usd"] == pytest.approx(described["usd"], abs=2e-6)


def test_the_days_are_those_that_are_named(client):
    for days_ago in range(5):
        used(client, "bob", days_ago)
    first, last = (f"{day(days_ago):%Y-%m-%d}" for days_ago in (3, 1))

    pictures = {
        query: json.loads(get(client, f"/usage?{query}").body)["pictures"]
        for query in (f"from={first}&to={last}", f"from={first}", f"days=2&to={last}", "days=1")
    }
    assert list(pictures.values()) == [3, 4, 2, 1]


def test_it_is_a_table_for_other_programs(client):
    used(client, "bob")
    response = get(client, "/usage?format=csv&days=3", **BROWSER)
    (row,) = csv.DictReader(io.StringIO(response.body.decode()))

    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"].startswith('attachment; filename="usage-20')
    assert (row["key"], row["pictures"], row["usd"]) == ("bob", "1", "0.5")


def test_a_browser_gets_the_page(client):
    cookie = client.sign_in(OTHER_KEY)
    response = client.get("/usage", cookie=cookie, **BROWSER)

    assert response.headers["Content-Type"].startswith("text/html")
    assert b"Dollars by day" in response.body


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("days=0", "days"),
        ("days=367", "days"),
        ("days=many", "days"),
        ("days=2&from=2026-01-01", "days"),
        ("from=yesterday", "from"),
        ("from=0001-01-01", "from"),
        ("to=0001-01-01", "to"),
        ("from=9999-12-31", "from"),
        ("from=2024-01-01", "from"),
        ("from=2026-02-30", "from"),
        ("format=xml", "format"),
        ("who=ada", "who"),
    ],
)
def test_a_wrong_parameter_is_named(client, query, field):
    response = get(client, f"/usage?{query}")

    assert (response.status_code, error_of(response)["field"]) == (400, field)


def test_links_and_open_gateways_see_nothing(client, monkeypatch):
    token = client.link(pictures=1)
    assert error_of(client.get(f"/usage?link={token}"))["code"] == "usage_needs_key"
    assert client.get("/usage").status_code == 401

    unguarded = GuardedClient(monkeypatch, guarded(keys=()), usd_per_hour=3.6)
    assert unguarded.get("/usage").status_code == 403


def test_a_gateway_that_records_nothing_says_so(monkeypatch):
    client = GuardedClient(monkeypatch, guarded())

    assert "EASEL_USAGE" in error_of(get(client, text=KEY))["message"]
    assert json.loads(client.get("/options").body)["usage"] is False
