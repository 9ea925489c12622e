"""Log lines and metrics, through the whole app."""

import io
import json

import pytest
from PIL import Image

from tests.gateway.doubles import KEY, GatewayClient, GuardedClient, guarded, refusal

AUTHORIZED = {"x_api_key": KEY}


def test_an_unexpected_error_is_a_500_without_details(client, log):
    client.endpoint.outcome = ZeroDivisionError("secret")
    response = client.get("/inference/a%20cat")

    error = json.loads(response.body)["error"]
    assert response.status_code == 500
    assert error["code"] == "internal_error"
    assert "secret" not in response.body.decode()
    crash = json.loads(log()[0])
    assert crash["message"] == "crash"
    assert crash["request_id"] == error["request_id"]
    assert "ZeroDivisionError" in crash["exception"]


def test_a_request_is_logged_in_one_line_without_the_callers_words(client, log):
    client.get("/inference/a%20secret?seed=7&negative_prompt=hush")

    said, counted = log()
    line = json.loads(said)
    assert "secret" not in said + counted
    assert "hush" not in said + counted
    assert line["route"] == "/inference/{text}"
    assert (line["status"], line["model"], line["seed"]) == (200, "sd", 7)
    assert line["milliseconds"] >= line["endpoint_milliseconds"] >= 0


def test_prompts_are_logged_when_the_setting_says_so(monkeypatch, log):
    GatewayClient(monkeypatch, log_prompts=True).get("/inference/a%20%22quoted%22%0Acat")

    assert json.loads(log()[0])["prompt"] == 'a "quoted" cat'


def test_pictures_and_failures_are_counted_by_model(client, log):
    client.get("/inference/a%20cat")
    client.endpoint.outcome = refusal("ThrottlingException")
    client.get("/inference/a%20cat?model=sdxl")
    client.get("/inference/a%20cat", "HEAD")
    client.get("/inference/a%20cat?steps=0")

    generated, failed = [line for line in map(json.loads, log()) if "_aws" in line]
    assert (generated["model"], generated["Pictures"]) == ("sd", [1.0])
    assert (failed["model"], failed["Failures"]) == ("sdxl", [1.0])
    assert generated["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Easel"


@pytest.fixture
def queued(monkeypatch):
    """Queue a picture, and return its client, and what ends its run."""
    client = GuardedClient(monkeypatch, guarded(), 0.5)
    client.post("/jobs", {"prompt": "a cat", "seed": 1, "model": "slow"}, **AUTHORIZED)
    (run,) = client.runtime.runs.queued

    def end(where, body=None):
        if body is None:
            file = io.BytesIO()
            Image.new("RGB", (8, 8), "teal").save(file, "png")
            body = file.getvalue()
        client.bucket.objects[run[where].removeprefix("s3://bucket/")] = body

    return client, end


def test_a_queued_picture_is_counted_when_it_is_returned(queued, log):
    client, end = queued
    waiting = client.get("/inference/a%20cat?seed=1&model=slow", **AUTHORIZED)
    end("output")
    done = client.get("/inference/a%20cat?seed=1&model=slow", **AUTHORIZED)

    assert (waiting.status_code, done.status_code) == (303, 200)
    (counted,) = [line for line in map(json.loads, log()) if "_aws" in line]
    assert (counted["model"], counted["Pictures"]) == ("slow", [1.0])
    assert "Latency" not in counted  # it was ready before


def test_the_latency_of_a_queued_picture_is_that_since_it_was_queued(queued, log, monkeypatch):
    client, end = queued
    jobs = client.service._stored["slow"].jobs
    # The picture is there at the first poll, after a minute in the queue.
    now = jobs._now
    monkeypatch.setattr(jobs, "_now", lambda: now() + 60)
    monkeypatch.setattr(jobs, "_sleep", lambda _: end("output"))
    client.get("/inference/a%20cat?seed=1&model=slow", **AUTHORIZED)

    (counted,) = [line for line in map(json.loads, log()) if "_aws" in line]
    assert 60_000 <= counted["Latency"][0] < 120_000


@pytest.mark.parametrize(
    ("text", "name"), [(b"it broke", "Failures"), (b"client error (400)", "Refusals")]
)
def test_a_queued_picture_that_failed_is_counted(queued, log, text, name):
    client, end = queued
    job = json.loads(
        client.post("/jobs", {"prompt": "a cat", "seed": 1, "model": "slow"}, **AUTHORIZED).body
    )["id"]
    end("failure", text)
    client.get(f"/jobs/{job}/image", **AUTHORIZED)

    (counted,) = [line for line in map(json.loads, log()) if "_aws" in line]
    assert (counted["model"], counted[name]) == ("slow", [1.0])
