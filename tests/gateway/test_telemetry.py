"""Log lines and metrics, through the whole app."""

import json

from tests.gateway.doubles import GatewayClient, refusal


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
