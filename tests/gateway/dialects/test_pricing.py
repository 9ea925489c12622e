"""A dry run: every API reports the price of a request, and nothing is generated or charged."""

import json

import pytest

from tests.gateway.documented import as_documented
from tests.gateway.doubles import BROWSER, KEY, GuardedClient, error_of, guarded, key

PATH = "/inference/a%20cat?seed=1"
ONE = {"model": "sd", "seed": 1, "exists": False, "seconds": 2, "usd": 0.002}


@pytest.fixture
def client(monkeypatch):
    keys = (key(usd_per_month=0.001),)  # not enough for a single picture
    return GuardedClient(monkeypatch, guarded(keys=keys), usd_per_hour=3.6)


def unused(client):
    return (client.generated, client.queued, client.bucket.objects) == (0, 0, {})


def test_a_url_reports_its_price(client):
    response = client.get(f"{PATH}&dry_run=1", x_api_key=KEY)

    assert response.status_code == 200
    described = as_documented(json.loads(response.body), "DryRun")
    assert described == {"dry_run": True, "usd": 0.002, "pictures": [ONE]}
    assert "X-Cost-USD" not in response.headers
    assert unused(client)


@pytest.mark.parametrize(
    ("path", "body", "pictures"),
    [
        ("/v1/images/generations", {"prompt": "a cat", "seed": 1, "n": 3}, 3),
        ("/v1/images/generations", {"prompt": "a cat", "seed": 1, "response_format": "url"}, 1),
        ("/sdapi/v1/txt2img", {"prompt": "a cat", "seed": 1, "batch_size": 2}, 2),
    ],
)
@pytest.mark.parametrize("in_body", [True, False])
def test_the_other_apis_report_the_price_of_all_pictures(client, path, body, pictures, in_body):
    if in_body:
        response = client.post(path, {**body, "dry_run": True}, x_api_key=KEY)
    else:
        response = client.post(f"{path}?dry_run=1", body, x_api_key=KEY)

    described = json.loads(response.body)
    assert described["usd"] == pytest.approx(0.002 * pictures)
    assert described["pictures"][0] == ONE
    assert [one["seed"] for one in described["pictures"]] == [1, 2, 3][:pictures]
    assert unused(client)


def test_a_queued_picture_that_is_there_costs_nothing(monkeypatch):
    client = GuardedClient(monkeypatch, guarded(), usd_per_hour=3.6)
    body = {"prompt": "a cat", "seed": 1, "model": "slow"}
    first = client.post("/jobs", {**body, "dry_run": 1}, x_api_key=KEY)
    assert unused(client)

    client.post("/jobs", body, x_api_key=KEY)
    (run,) = client.runtime.runs.queued
    waiting = client.post("/jobs?dry_run=true", body, x_api_key=KEY)
    client.bucket.objects[run["output"].removeprefix("s3://bucket/")] = b"\x89PNG"
    done = client.post("/jobs?dry_run=true", body, x_api_key=KEY)

    usd = [json.loads(each.body)["usd"] for each in (first, waiting, done)]
    exists = [json.loads(each.body)["pictures"][0]["exists"] for each in (first, waiting, done)]
    assert (usd, exists) == ([0.002, 0.002, 0], [False, False, True])
    assert client.queued == 1


@pytest.mark.parametrize("path", ["/inference?dry_run=1", "/inference?prompt=a+cat&dry_run=1"])
def test_the_redirects_of_a_browser_keep_it(client, path):
    response = client.get(path, x_api_key=KEY, **BROWSER)
    assert response.status_code == 303

    response = client.get(response.headers["Location"], x_api_key=KEY, **BROWSER)
    assert json.loads(response.body)["usd"] == 0.002
    assert unused(client)


def test_a_model_without_a_price_has_none(monkeypatch):
    client = GuardedClient(monkeypatch, guarded())
    response = client.get(f"{PATH}&dry_run=1", x_api_key=KEY)
    described = as_documented(json.loads(response.body), "DryRun")

    assert (described["usd"], described["pictures"][0]["seconds"]) == (None, 2)


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_anything_but_true_or_false_is_refused_before_any_cost(client, value):
    own = client.get(f"{PATH}&dry_run={value}", x_api_key=KEY)
    body = {"prompt": "a cat", "dry_run": value}
    theirs = client.post("/v1/images/generations", body, x_api_key=KEY)

    assert (own.status_code, error_of(own)["field"]) == (400, "dry_run")
    assert (theirs.status_code, error_of(theirs)["param"]) == (400, "dry_run")
    assert unused(client)


@pytest.mark.parametrize("path", ["/inference", "/inference?prompt=a+cat", PATH])
@pytest.mark.parametrize("query", ["dry_run=1&dry_run=1", "dry_run=1&dry_run=0", "dry_run=null"])
def test_an_unusable_one_is_refused_before_a_redirect(client, path, query):
    address = f"{path}{'&' if '?' in path else '?'}{query}"
    response = client.get(address, x_api_key=KEY, **BROWSER)

    assert response.status_code == 400
    assert "dry_run: " in response.body.decode()
    assert unused(client)


def test_false_is_no_dry_run(monkeypatch):
    client = GuardedClient(monkeypatch, guarded())
    assert client.get(f"{PATH}&dry_run=0", x_api_key=KEY).headers["X-Seed"] == "1"
