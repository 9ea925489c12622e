"""A batch through the URL of a gateway: what it sends, and what each answer means."""

from __future__ import annotations

import base64
import json

import pytest

from endpoint.core.batches.lines import read_file
from endpoint.core.http import Answer
from endpoint.core.problems import BadArgument, ScriptError
from endpoint.provision.batches import local
from endpoint.provision.batches.direct import Busy, Failed
from endpoint.provision.batches.run import tasks
from tests.endpoint.doubles import PNG

PICTURE = json.dumps({"data": [{"b64_json": base64.b64encode(PNG).decode()}]}).encode()
MODELS = b'{"data": [{"id": "sd"}, {"id": "sdxl"}]}'
(TASK,) = tasks(read_file(".txt", b"--prompt a cat --cfg_scale 0", ["sd"]))


class Gateway:
    """Answers one after the other, and what was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, method, url, headers, body):
        self.asked.append((method, url, headers, body and json.loads(body)))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def paint(*answers):
    gateway = Gateway(*answers)
    return local.Gateway("http://127.0.0.1:8000/api/", gateway).paint(TASK), gateway.asked


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/api"),
        ("http://127.0.0.1:8000/api/", "http://127.0.0.1:8000/api"),
        ("localhost:8000", "http://localhost:8000/api"),
        ("https://x.amazonaws.com/api", "https://x.amazonaws.com/api"),
    ],
)
def test_the_url_may_be_written_as_it_comes(url, address):
    assert local.Gateway(url).url == address


@pytest.mark.parametrize("url", ["", "ftp://x/api", "http://", "file:///etc"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(BadArgument, match="--local"):
        local.Gateway(url)


def test_the_models_are_the_gateways():
    gateway = Gateway(Answer(200, {}, MODELS))

    assert local.Gateway("http://x", gateway).models() == ["sd", "sdxl"]


@pytest.mark.parametrize(
    "answer", [OSError("refused"), Answer(200, {}, b"<html>"), Answer(404, {}, b"{}")]
)
def test_where_no_gateway_answers_nothing_begins(answer):
    with pytest.raises(BadArgument, match="No gateway answers"):
        local.Gateway("http://x", Gateway(answer)).models()


def test_the_request_is_openais_with_everything_that_the_line_says():
    picture, asked = paint(Answer(200, {}, PICTURE))

    assert picture == PNG
    ((method, url, headers, body),) = asked
    assert (method, url) == ("POST", "http://127.0.0.1:8000/api/v1/images/generations")
    assert "Authorization" not in headers
    assert body == {
        "prompt": "a cat", "seed": TASK.picture.request.seed, "guidance_scale": 0.0, "model": "sd",
        "output_format": "png", "response_format": "b64_json",
    }  # fmt: skip


def test_redirects_of_a_queued_picture_are_followed():
    hop = Answer(303, {"location": "/api/v1/images/generations/sd-1"})

    picture, asked = paint(hop, hop, Answer(200, {}, PICTURE))

    assert picture == PNG
    assert asked[2][:2] == ("GET", "http://127.0.0.1:8000/api/v1/images/generations/sd-1")


def test_a_picture_that_does_not_fit_a_response_is_fetched_without_the_key(monkeypatch):
    monkeypatch.setenv(local.KEY, "secret")
    linked = Answer(200, {}, b'{"data": [{"url": "https://bucket/x.png?signed"}]}')

    picture, asked = paint(linked, Answer(200, {}, PNG))

    assert picture == PNG
    assert asked[0][2]["Authorization"] == "Bearer secret"
    assert "Authorization" not in asked[1][2]


@pytest.mark.parametrize(
    ("answer", "seconds", "counts"),
    [
        (Answer(429, {"retry-after": "7"}, b"{}"), 7, False),
        (Answer(503, {"retry-after": "700"}, b"{}"), 60, True),
        (Answer(502, {}, b"<html>"), 5, True),
        (OSError("refused"), 5, False),
        # What is left of the budget is reserved for pictures in progress.
        (Answer(402, {"retry-after": "30"}, b"{}"), 30, False),
    ],
)
def test_trouble_behind_the_gateway_is_worth_another_attempt(answer, seconds, counts):
    with pytest.raises(Busy) as error:
        paint(answer)
    assert (error.value.seconds, error.value.counts) == (seconds, counts)


def test_a_refusal_fails_the_line_with_the_gateways_words():
    body = b'{"error": {"message": "lora: there is no x"}}'

    with pytest.raises(Failed, match="lora: there is no x") as error:
        paint(Answer(400, {}, body))
    assert error.value.status == 400


@pytest.mark.parametrize("headers", [{"retry-after": "86400"}, {"retry-after": "61"}, {}])
def test_a_budget_that_is_used_up_ends_the_batch_and_fails_no_line(headers):
    body = b'{"error": {"message": "The budget of this key is used up."}}'

    with pytest.raises(ScriptError) as error:
        paint(Answer(402, headers, body))
    assert "The budget of this key is used up." in str(error.value)
    assert "The same command continues" in error.value.advice


def test_an_answer_without_a_picture_fails_the_line():
    with pytest.raises(Failed, match="has no picture"):
        paint(Answer(200, {}, b"{}"))


def test_a_missing_key_ends_the_batch_and_names_the_variable():
    with pytest.raises(ScriptError) as error:
        paint(Answer(401, {}, b'{"error": {"message": "A key is required."}}'))
    assert "A key is required." in str(error.value)
    assert "EASEL_API_KEY" in error.value.advice
