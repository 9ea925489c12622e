"""Easel's own URLs, through the whole app."""

import json
from urllib.parse import unquote

import pytest

from chalicelib.description import Description
from chalicelib.settings import Model
from tests.gateway.doubles import BROWSER


def test_any_field_of_the_contract_is_a_query_parameter(client):
    client.get(
        "/inference/a%20cat?negative_prompt=a%20dog&seed=7&steps=3&guidance_scale=4.5"
        "&width=512&height=256&model=sdxl&lora=pixel&format=webp"
    )

    assert client.asked == [
        {
            "prompt": "a cat",
            "negative_prompt": "a dog",
            "seed": 7,
            "steps": 3,
            "guidance_scale": 4.5,
            "width": 512,
            "height": 256,
            "model": "sdxl",
            "lora": "pixel:1",
            "format": "webp",
        }
    ]
    assert client.endpoint.asked[0]["EndpointName"] == "easel-sdxl"


def test_seed_and_model_are_always_chosen(client):
    client.get("/inference/a%20cat")
    client.get("/inference/a%20cat")

    first, second = client.asked
    assert first["model"] == "sd"
    assert first["seed"] != second["seed"]


def test_the_default_prompt_has_its_own_url(client):
    client.get("/inference/default")

    assert client.asked[0]["prompt"] == "a photo of an astronaut riding a horse on mars"


def test_a_program_gets_the_picture_of_a_random_sentence_at_once(client):
    response = client.get("/inference?seed=7")

    assert response.headers["Content-Type"] == "image/png"
    assert client.asked[0]["prompt"] == unquote(response.headers["X-Prompt"])
    assert client.asked[0]["seed"] == 7


def test_random_pictures_differ_and_are_not_kept(client):
    responses = [client.get("/inference") for _ in range(5)]

    # Two of them may be alike; all five never.
    assert len({response.headers["X-Prompt"] for response in responses}) > 1
    assert {response.headers["Cache-Control"] for response in responses} == {"no-store"}


def test_a_browser_is_sent_to_the_random_sentences_own_url(client):
    response = client.get("/inference?steps=3", **BROWSER)
    location = response.headers["Location"]

    assert response.status_code == 303
    assert response.headers["Cache-Control"] == "no-store"
    assert client.asked == []
    client.get(location)
    assert client.asked[0]["steps"] == 3
    assert f"seed={client.asked[0]['seed']}" in location


def test_the_url_that_a_browser_is_sent_to_is_the_picture_that_a_program_gets(client):
    sent_to = client.get("/inference?seed=7", **BROWSER).headers["Location"]
    client.get(sent_to)
    client.get("/inference?seed=7")

    assert client.asked[0] == client.asked[1]


def test_a_picture_that_the_client_has_is_not_generated_again(client):
    first = client.get("/inference/a%20cat?seed=7")
    tag = first.headers["ETag"]
    again = client.get("/inference/a%20cat?seed=7", **{"If-None-Match": f'"other", W/{tag}'})

    assert (again.status_code, again.body) == (304, b"")
    assert again.headers["ETag"] == tag
    for name in ("Cache-Control", "Content-Type", "X-Seed"):
        assert again.headers[name] == first.headers[name]
    assert len(client.asked) == 1


@pytest.mark.parametrize("path", ["a%20cat?seed=8", "a%20dog?seed=7", "a%20cat?seed=7&steps=3"])
def test_every_other_picture_is_generated(client, path):
    tag = client.get("/inference/a%20cat?seed=7").headers["ETag"]

    assert client.get(f"/inference/{path}", **{"If-None-Match": tag}).status_code == 200
    assert len(client.asked) == 2


def test_a_url_without_a_seed_is_generated_whatever_the_client_has(client):
    first = client.get("/inference/a%20cat?seed=7")
    assert "ETag" not in client.get("/inference/a%20cat").headers

    again = client.get("/inference/a%20cat", **{"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 200


def test_a_plain_form_is_sent_to_its_prompts_own_url(client):
    response = client.get("/inference?prompt=a%2Fb+%26+c&steps=3&seed=&lora=", **BROWSER)

    path, _, query = response.headers["Location"].partition("?")
    fields = dict(pair.split("=") for pair in query.split("&"))
    assert (response.status_code, path) == (303, "/inference/a%2Fb%20%26%20c")
    assert fields.pop("seed").isdigit()
    assert fields == {"steps": "3"}
    assert client.asked == []


def test_a_random_sentence_is_available_without_its_picture(client):
    described = json.loads(client.get("/sentence?seed=7").body)
    client.get("/inference?seed=7")

    assert described == {"sentence": client.asked[0]["prompt"], "seed": 7}
    others = {client.get("/sentence").body for _ in range(10)}
    assert len(others) > 1


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/inference/a?steps=0", "steps"),
        ("/inference?prompt=", "prompt"),
        ("/inference?prompt=a&steps=0", "steps"),
        ("/inference?prompt=a&prompt=b", "prompt"),
        ("/sentence?seed=x", "seed"),
        ("/sentence?model=other", "model"),
        ("/inference/a?nonsense=1", "nonsense"),
        ("/inference/a?seed=1&seed=2", "seed"),
        ("/inference/a?prompt=b", "prompt"),
        ("/inference/a?model=other", "model"),
        ("/inference/%00", "prompt"),
        ("/inference/%20", "prompt"),
        ("/inference/%FF", "prompt"),
        ("/inference/" + "x" * 1_001, "prompt"),
        ("/inference?steps=0", "steps"),
        ("/inference/default?width=100", "width"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_bad_input_is_a_400_that_names_the_field_before_any_gpu_time(client, path, field, method):
    response = client.get(path, method)

    assert response.status_code == 400
    assert client.asked == []
    if method == "GET":
        error = json.loads(response.body)["error"]
        assert error["code"] == "invalid_request"
        assert error["field"] == field
        assert error["message"].startswith(f"{field}: ")


@pytest.mark.parametrize("path", ["/inference/a%20cat", "/inference", "/inference/default"])
def test_a_head_request_never_reaches_the_endpoint(client, path):
    response = client.get(path, "HEAD")

    assert (response.status_code, response.body) == (200, b"")
    assert response.headers["Content-Type"] == "image/png"
    assert client.asked == []


@pytest.mark.parametrize("path", ["/inference/a%20cat", "/inference/default"])
def test_a_prefetch_never_reaches_the_endpoint(client, path):
    response = client.get(path, **BROWSER, **{"Sec-Purpose": "prefetch;prerender"})

    assert response.status_code == 503
    assert response.headers["Cache-Control"] == "no-store"
    assert client.asked == []


def test_a_random_sentence_has_the_words_of_the_model_that_paints_it(client, monkeypatch):
    zoo = Description.from_dict({"vocabulary": {"things": ["a panda"]}})
    client.offer(
        {"sd": Model("sd", "easel-sd"), "sdxl": Model("sdxl", "easel-sdxl", description=zoo)}
    )

    def sentence(query):
        return json.loads(client.get(f"/sentence?{query}").body)["sentence"]

    assert sentence("model=sdxl&seed=7") == "a panda"
    assert sentence("seed=7") == sentence("seed=7&model=sd") == "Charter for rises from Japan."
    client.get("/inference?model=sdxl&seed=1")
    assert "panda" in client.asked[0]["prompt"]
    response = client.get("/inference?model=sdxl&seed=1", **BROWSER)
    assert "/inference/a%20panda" in response.headers["Location"]
