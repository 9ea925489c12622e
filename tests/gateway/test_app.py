"""The routes through the whole Chalice app, in front of a client that is handed in."""

import io
import json
from urllib.parse import unquote

import pytest
from chalice.test import Client
from PIL import Image

import app as gateway
from chalicelib.generation import RULES
from chalicelib.images.service import Painter
from chalicelib.settings import Model, Settings
from chalicelib.web import telemetry
from tests.gateway.aws.test_sagemaker import Client as RuntimeClient
from tests.gateway.aws.test_sagemaker import Given, answer, refusal

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Dest": "document"}
FORMATS = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpeg"}


class PaintingClient(RuntimeClient):
    """A runtime client that paints a small picture in whatever format is accepted."""

    def invoke_endpoint(self, **arguments):
        super().invoke_endpoint(**arguments)
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), "teal").save(buffer, FORMATS[arguments["Accept"]])
        return answer(buffer.getvalue())


class Visitor:
    """Visits the gateway, and knows what reached the endpoint."""

    def __init__(self, log_prompts=False):
        models = {"sd": Model("sd", "easel-sd"), "sdxl": Model("sdxl", "easel-sdxl")}
        self.endpoint = PaintingClient(None)
        self._log_prompts = log_prompts
        self.offer(models)
        self._http = Client(gateway.app)

    def offer(self, models):
        self.settings = Settings(models, 24, self._log_prompts)
        self.painter = Painter(self.settings, Given(self.endpoint))

    def get(self, path, method="GET", **headers):
        return self._http.http.request(method, path, headers=headers)

    def post(self, path, body):
        headers = {"Content-Type": "application/json"}
        return self._http.http.request("POST", path, headers=headers, body=body)

    @property
    def asked(self):
        return [json.loads(each["Body"]) for each in self.endpoint.asked]


@pytest.fixture
def visitor(monkeypatch):
    return _visitor(monkeypatch)


@pytest.fixture
def log(monkeypatch, capsys):
    """All log lines so far, and after them all metrics."""
    # The logger's handler holds on to the standard output that it was made with.
    output = io.StringIO()
    monkeypatch.setattr(telemetry.logger.registered_handler, "stream", output)
    return lambda: (output.getvalue() + capsys.readouterr().out).splitlines()


def _visitor(monkeypatch, **settings):
    visitor = Visitor(**settings)
    monkeypatch.setattr(gateway, "settings", lambda: visitor.settings)
    monkeypatch.setattr(gateway, "painter", lambda: visitor.painter)
    return visitor


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
def test_every_client_gets_the_raw_picture(visitor, headers):
    response = visitor.get("/inference/a%20cat", **headers)

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(response.body)).size == (8, 8)


def test_a_picture_says_what_made_it(visitor):
    response = visitor.get("/inference/caf%C3%A9%20%E7%8C%AB%0Aby%20night?seed=7&model=sdxl")

    assert response.headers["X-Seed"] == "7"
    assert response.headers["X-Model"] == "sdxl"
    assert unquote(response.headers["X-Prompt"]) == "café 猫 by night"
    assert response.headers["Content-Disposition"].startswith("inline; filename=")
    assert all(value.isascii() and "\n" not in value for value in response.headers.values())


def test_a_long_prompt_of_long_characters_fits_the_header_limit_of_api_gateway(visitor):
    prompt = "%F0%9F%90%88" * 800
    response = visitor.get(f"/inference/{prompt}")

    assert sum(len(name) + len(value) for name, value in response.headers.items()) < 10_240
    assert set(unquote(response.headers["X-Prompt"])) == {"\U0001f408"}


def test_a_url_that_names_its_seed_may_be_kept_for_ever(visitor):
    fixed = visitor.get("/inference/a%20cat?seed=0")
    random_seed = visitor.get("/inference/a%20cat")
    empty = visitor.get("/inference/a%20cat?seed=")

    assert fixed.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert random_seed.headers["Cache-Control"] == "no-store"
    assert empty.headers["Cache-Control"] == "no-store"


def test_any_field_of_the_contract_is_a_query_parameter(visitor):
    visitor.get(
        "/inference/a%20cat?negative_prompt=a%20dog&seed=7&steps=3&guidance_scale=4.5"
        "&width=512&height=256&model=sdxl&lora=pixel&format=webp"
    )

    assert visitor.asked == [
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
    assert visitor.endpoint.asked[0]["EndpointName"] == "easel-sdxl"


def test_seed_and_model_are_always_chosen(visitor):
    visitor.get("/inference/a%20cat")
    visitor.get("/inference/a%20cat")

    first, second = visitor.asked
    assert first["model"] == "sd"
    assert first["seed"] != second["seed"]


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_other_formats_come_back_as_such(visitor, format):
    response = visitor.get(f"/inference/a%20cat?format={format}")

    assert response.headers["Content-Type"] == f"image/{format}"
    assert Image.open(io.BytesIO(response.body)).format == format.upper()


def test_the_default_prompt_has_its_own_url(visitor):
    visitor.get("/inference/default")

    assert visitor.asked[0]["prompt"] == "a photo of an astronaut riding a horse on mars"


def test_a_program_gets_the_picture_of_a_random_sentence_at_once(visitor):
    response = visitor.get("/inference?seed=7")

    assert response.headers["Content-Type"] == "image/png"
    assert visitor.asked[0]["prompt"] == unquote(response.headers["X-Prompt"])
    assert visitor.asked[0]["seed"] == 7


def test_random_pictures_differ_and_are_not_kept(visitor):
    responses = [visitor.get("/inference") for _ in range(5)]

    # Two of them may be alike; all five never.
    assert len({response.headers["X-Prompt"] for response in responses}) > 1
    assert {response.headers["Cache-Control"] for response in responses} == {"no-store"}


def test_a_browser_is_sent_to_the_random_sentences_own_url(visitor):
    response = visitor.get("/inference?steps=3", **BROWSER)
    location = response.headers["Location"]

    assert response.status_code == 303
    assert response.headers["Cache-Control"] == "no-store"
    assert visitor.asked == []
    visitor.get(location)
    assert visitor.asked[0]["steps"] == 3
    assert f"seed={visitor.asked[0]['seed']}" in location


def test_the_url_that_a_browser_is_sent_to_is_the_picture_that_a_program_gets(visitor):
    sent_to = visitor.get("/inference?seed=7", **BROWSER).headers["Location"]
    visitor.get(sent_to)
    visitor.get("/inference?seed=7")

    assert visitor.asked[0] == visitor.asked[1]


def test_a_picture_that_the_visitor_has_already_is_not_painted_again(visitor):
    first = visitor.get("/inference/a%20cat?seed=7")
    tag = first.headers["ETag"]
    again = visitor.get("/inference/a%20cat?seed=7", **{"If-None-Match": f'"other", W/{tag}'})

    assert (again.status_code, again.body) == (304, b"")
    assert again.headers["ETag"] == tag
    for name in ("Cache-Control", "Content-Type", "X-Seed"):
        assert again.headers[name] == first.headers[name]
    assert len(visitor.asked) == 1


@pytest.mark.parametrize("path", ["a%20cat?seed=8", "a%20dog?seed=7", "a%20cat?seed=7&steps=3"])
def test_every_other_picture_is_painted(visitor, path):
    tag = visitor.get("/inference/a%20cat?seed=7").headers["ETag"]

    assert visitor.get(f"/inference/{path}", **{"If-None-Match": tag}).status_code == 200
    assert len(visitor.asked) == 2


def test_a_url_without_a_seed_is_painted_whatever_the_visitor_has(visitor):
    first = visitor.get("/inference/a%20cat?seed=7")
    assert "ETag" not in visitor.get("/inference/a%20cat").headers

    again = visitor.get("/inference/a%20cat", **{"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 200


def test_the_home_page_is_sent_once_and_asked_about_afterwards(visitor):
    first = visitor.get("/", **BROWSER)
    again = visitor.get("/", **BROWSER, **{"If-None-Match": first.headers["ETag"]})

    assert first.headers["Cache-Control"] == "private, no-cache"
    assert (again.status_code, again.body) == (304, b"")
    assert again.headers["Content-Security-Policy"] == first.headers["Content-Security-Policy"]
    assert visitor.get("/", **BROWSER, **{"If-None-Match": '"old"'}).body == first.body


def test_a_plain_form_is_sent_to_its_prompts_own_url(visitor):
    response = visitor.get("/inference?prompt=a%2Fb+%26+c&steps=3&seed=&lora=", **BROWSER)

    path, _, query = response.headers["Location"].partition("?")
    given = dict(pair.split("=") for pair in query.split("&"))
    assert (response.status_code, path) == (303, "/inference/a%2Fb%20%26%20c")
    assert given.pop("seed").isdigit()
    assert given == {"steps": "3"}
    assert visitor.asked == []


def test_a_random_sentence_can_be_had_before_it_is_painted(visitor):
    told = json.loads(visitor.get("/sentence?seed=7").body)
    visitor.get("/inference?seed=7")

    assert told == {"sentence": visitor.asked[0]["prompt"], "seed": 7}
    others = {visitor.get("/sentence").body for _ in range(10)}
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
def test_bad_input_is_a_400_that_names_the_field_before_any_gpu_time(visitor, path, field, method):
    response = visitor.get(path, method)

    assert response.status_code == 400
    assert visitor.asked == []
    if method == "GET":
        error = json.loads(response.body)["error"]
        assert error["code"] == "invalid_request"
        assert error["field"] == field
        assert error["message"].startswith(f"{field}: ")


@pytest.mark.parametrize("path", ["/inference/a%20cat", "/inference", "/inference/default"])
def test_a_head_request_never_reaches_the_endpoint(visitor, path):
    response = visitor.get(path, "HEAD")

    assert (response.status_code, response.body) == (200, b"")
    assert response.headers["Content-Type"] == "image/png"
    assert visitor.asked == []


@pytest.mark.parametrize("path", ["/inference/a%20cat", "/inference/default"])
def test_a_prefetch_never_reaches_the_endpoint(visitor, path):
    response = visitor.get(path, **BROWSER, **{"Sec-Purpose": "prefetch;prerender"})

    assert response.status_code == 503
    assert response.headers["Cache-Control"] == "no-store"
    assert visitor.asked == []


def test_a_program_is_told_of_trouble_in_json_and_a_person_on_a_page(visitor):
    visitor.endpoint.outcome = refusal("ThrottlingException")
    program = visitor.get("/inference/a%20cat")
    person = visitor.get("/inference/a%20cat", **BROWSER)

    assert program.status_code == person.status_code == 503
    assert program.headers["Retry-After"] == person.headers["Retry-After"] == "15"
    assert json.loads(program.body)["error"]["code"] == "endpoint_busy"
    assert person.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in person.headers["Content-Security-Policy"]
    assert b"is still starting" in person.body


def test_what_nobody_foresaw_is_a_500_that_says_nothing_of_it(visitor, log):
    visitor.endpoint.outcome = ZeroDivisionError("secret")
    response = visitor.get("/inference/a%20cat")

    error = json.loads(response.body)["error"]
    assert response.status_code == 500
    assert error["code"] == "internal_error"
    assert "secret" not in response.body.decode()
    crash = json.loads(log()[0])
    assert crash["message"] == "crash"
    assert crash["request_id"] == error["request_id"]
    assert "ZeroDivisionError" in crash["exception"]


def test_options_tell_the_fields_and_the_models(visitor):
    told = json.loads(visitor.get("/options").body)

    assert list(told["fields"]["properties"]) == list(RULES)
    assert [model["name"] for model in told["models"]] == ["sd", "sdxl"]
    unknown = {"asynchronous": False, "defaults": {}, "seconds": None, "loras": []}
    assert told["models"][0] == {"name": "sd", **unknown}


def test_health_tells_the_version_and_touches_no_gpu(visitor):
    told = json.loads(visitor.get("/health").body)

    assert told["status"] == "ok"
    assert told["models"] == ["sd", "sdxl"]
    assert visitor.asked == []


def test_the_home_page_is_a_page(visitor):
    response = visitor.get("/", **BROWSER)

    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'<base href="/">' in response.body


def test_every_answer_forbids_sniffing(visitor):
    for path in ("/", "/options", "/inference/a", "/inference/a?steps=0"):
        assert visitor.get(path).headers["X-Content-Type-Options"] == "nosniff"


def test_a_method_that_no_route_has_is_answered_in_bytes(visitor):
    response = visitor.get("/inference/a%20cat", "DELETE")

    assert response.status_code == 405
    assert isinstance(response.body, bytes)


def test_a_visit_is_logged_in_one_line_without_the_visitors_words(visitor, log):
    visitor.get("/inference/a%20secret?seed=7&negative_prompt=hush")

    said, counted = log()
    line = json.loads(said)
    assert "secret" not in said + counted
    assert "hush" not in said + counted
    assert line["route"] == "/inference/{text}"
    assert (line["status"], line["model"], line["seed"]) == (200, "sd", 7)
    assert line["milliseconds"] >= line["endpoint_milliseconds"] >= 0


def test_prompts_are_logged_when_the_setting_says_so(monkeypatch, log):
    _visitor(monkeypatch, log_prompts=True).get("/inference/a%20%22quoted%22%0Acat")

    assert json.loads(log()[0])["prompt"] == 'a "quoted" cat'


def test_pictures_and_failures_are_counted_by_model(visitor, log):
    visitor.get("/inference/a%20cat")
    visitor.endpoint.outcome = refusal("ThrottlingException")
    visitor.get("/inference/a%20cat?model=sdxl")
    visitor.get("/inference/a%20cat", "HEAD")
    visitor.get("/inference/a%20cat?steps=0")

    painted, failed = [line for line in map(json.loads, log()) if "_aws" in line]
    assert (painted["model"], painted["Pictures"]) == ("sd", [1.0])
    assert (failed["model"], failed["Failures"]) == ("sdxl", [1.0])
    assert painted["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Easel"
