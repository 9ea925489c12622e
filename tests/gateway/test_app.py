"""The routes through the whole Chalice app, in front of a client that is handed in."""

import io
import json
from urllib.parse import unquote

import pytest
from PIL import Image

from chalicelib.generation import RULES
from tests.gateway.doubles import BROWSER, GatewayClient, refusal


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Accept": "*/*"},
        {"Accept": "image/png"},
        {"Accept": "application/json"},
        BROWSER,
        {"Content-Type": "text/plain"},
    ],
)
def test_every_client_gets_the_raw_picture(client, headers):
    response = client.get("/inference/a%20cat", **headers)

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(response.body)).size == (8, 8)


def test_a_picture_says_what_made_it(client):
    response = client.get("/inference/caf%C3%A9%20%E7%8C%AB%0Aby%20night?seed=7&model=sdxl")

    assert response.headers["X-Seed"] == "7"
    assert response.headers["X-Model"] == "sdxl"
    assert unquote(response.headers["X-Prompt"]) == "café 猫 by night"
    assert response.headers["Content-Disposition"].startswith("inline; filename=")
    assert all(value.isascii() and "\n" not in value for value in response.headers.values())


def test_a_long_prompt_of_long_characters_fits_the_header_limit_of_api_gateway(client):
    prompt = "%F0%9F%90%88" * 800
    response = client.get(f"/inference/{prompt}")

    assert sum(len(name) + len(value) for name, value in response.headers.items()) < 10_240
    assert set(unquote(response.headers["X-Prompt"])) == {"\U0001f408"}


def test_a_url_that_names_its_seed_may_be_kept_for_ever(client):
    fixed = client.get("/inference/a%20cat?seed=0")
    random_seed = client.get("/inference/a%20cat")
    empty = client.get("/inference/a%20cat?seed=")

    assert fixed.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert random_seed.headers["Cache-Control"] == "no-store"
    assert empty.headers["Cache-Control"] == "no-store"


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


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_other_formats_come_back_as_such(client, format):
    response = client.get(f"/inference/a%20cat?format={format}")

    assert response.headers["Content-Type"] == f"image/{format}"
    assert Image.open(io.BytesIO(response.body)).format == format.upper()


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


def test_a_picture_that_the_visitor_has_already_is_not_painted_again(client):
    first = client.get("/inference/a%20cat?seed=7")
    tag = first.headers["ETag"]
    again = client.get("/inference/a%20cat?seed=7", **{"If-None-Match": f'"other", W/{tag}'})

    assert (again.status_code, again.body) == (304, b"")
    assert again.headers["ETag"] == tag
    for name in ("Cache-Control", "Content-Type", "X-Seed"):
        assert again.headers[name] == first.headers[name]
    assert len(client.asked) == 1


@pytest.mark.parametrize("path", ["a%20cat?seed=8", "a%20dog?seed=7", "a%20cat?seed=7&steps=3"])
def test_every_other_picture_is_painted(client, path):
    tag = client.get("/inference/a%20cat?seed=7").headers["ETag"]

    assert client.get(f"/inference/{path}", **{"If-None-Match": tag}).status_code == 200
    assert len(client.asked) == 2


def test_a_url_without_a_seed_is_painted_whatever_the_visitor_has(client):
    first = client.get("/inference/a%20cat?seed=7")
    assert "ETag" not in client.get("/inference/a%20cat").headers

    again = client.get("/inference/a%20cat", **{"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 200


def test_the_home_page_is_sent_once_and_asked_about_afterwards(client):
    first = client.get("/", **BROWSER)
    again = client.get("/", **BROWSER, **{"If-None-Match": first.headers["ETag"]})

    assert first.headers["Cache-Control"] == "private, no-cache"
    assert (again.status_code, again.body) == (304, b"")
    assert again.headers["Content-Security-Policy"] == first.headers["Content-Security-Policy"]
    assert client.get("/", **BROWSER, **{"If-None-Match": '"old"'}).body == first.body


def test_a_plain_form_is_sent_to_its_prompts_own_url(client):
    response = client.get("/inference?prompt=a%2Fb+%26+c&steps=3&seed=&lora=", **BROWSER)

    path, _, query = response.headers["Location"].partition("?")
    given = dict(pair.split("=") for pair in query.split("&"))
    assert (response.status_code, path) == (303, "/inference/a%2Fb%20%26%20c")
    assert given.pop("seed").isdigit()
    assert given == {"steps": "3"}
    assert client.asked == []


def test_a_random_sentence_can_be_had_before_it_is_painted(client):
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


def test_a_program_is_told_of_trouble_in_json_and_a_person_on_a_page(client):
    client.endpoint.outcome = refusal("ThrottlingException")
    program = client.get("/inference/a%20cat")
    person = client.get("/inference/a%20cat", **BROWSER)

    assert program.status_code == person.status_code == 503
    assert program.headers["Retry-After"] == person.headers["Retry-After"] == "15"
    assert json.loads(program.body)["error"]["code"] == "endpoint_busy"
    assert person.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in person.headers["Content-Security-Policy"]
    assert b"is still starting" in person.body


def test_what_nobody_foresaw_is_a_500_that_says_nothing_of_it(client, log):
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


def test_options_tell_the_fields_and_the_models(client):
    described = json.loads(client.get("/options").body)

    assert list(described["fields"]["properties"]) == list(RULES)
    assert [model["name"] for model in described["models"]] == ["sd", "sdxl"]
    unknown = {"asynchronous": False, "defaults": {}, "seconds": None, "loras": []}
    assert described["models"][0] == {"name": "sd", **unknown}


def test_health_tells_the_version_and_touches_no_gpu(client):
    described = json.loads(client.get("/health").body)

    assert described["status"] == "ok"
    assert described["models"] == ["sd", "sdxl"]
    assert client.asked == []


def test_the_home_page_is_a_page(client):
    response = client.get("/", **BROWSER)

    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'<base href="/">' in response.body


def test_every_answer_forbids_sniffing(client):
    for path in ("/", "/options", "/inference/a", "/inference/a?steps=0"):
        assert client.get(path).headers["X-Content-Type-Options"] == "nosniff"


def test_a_method_that_no_route_has_is_answered_in_bytes(client):
    response = client.get("/inference/a%20cat", "DELETE")

    assert response.status_code == 405
    assert isinstance(response.body, bytes)


def test_a_visit_is_logged_in_one_line_without_the_visitors_words(client, log):
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
