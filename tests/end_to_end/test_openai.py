"""OpenAI's own client libraries, unmodified, with nothing changed but the base URL."""

import base64
import io
import json
import secrets

import openai
import pytest
import requests
from PIL import Image

from endpoint.emulator.process.http_server import QuietHandler, serving
from tests.end_to_end.conftest import ASYNC_ENDPOINT, ENDPOINT
from tests.end_to_end.test_jobs import cold  # noqa: F401 (a fixture)


@pytest.fixture
def wish():
    return f"a cat with {secrets.token_hex(8)}"


@pytest.fixture
def client(door):
    with openai.OpenAI(base_url=f"{door}/v1", api_key="none") as client:
        yield client


def bodies(emulator, endpoint=ENDPOINT):
    return [json.loads(each["body"]) for each in emulator.requests(endpoint)]


def picture(data):
    return Image.open(io.BytesIO(base64.b64decode(data.b64_json)))


def test_a_picture_comes_back_as_base64(client, emulator, wish):
    answer = client.images.generate(prompt=wish, model="sd")

    assert picture(answer.data[0]).format == "PNG"
    assert answer.created > 1_700_000_000
    (asked,) = bodies(emulator)
    assert asked["prompt"] == wish
    assert answer.data[0].seed == asked["seed"]


def test_several_pictures_are_as_many_seeds(client, emulator, wish):
    answer = client.images.generate(prompt=wish, n=3, extra_body={"seed": 4_294_967_295})

    seeds = [data.seed for data in answer.data]
    assert seeds == [4_294_967_295, 0, 1]
    assert sorted(asked["seed"] for asked in bodies(emulator)) == sorted(seeds)
    assert len({data.b64_json for data in answer.data}) == 3


def test_size_format_and_the_contracts_own_fields_arrive(client, emulator, wish):
    answer = client.images.generate(
        prompt=wish,
        size="128x64",
        output_format="webp",
        extra_body={"negative_prompt": "a dog", "steps": 3, "guidance_scale": 2},
    )

    assert picture(answer.data[0]).format == "WEBP"
    assert picture(answer.data[0]).size == (128, 64)
    (asked,) = bodies(emulator)
    assert asked["negative_prompt"] == "a dog"
    assert (asked["steps"], asked["guidance_scale"]) == (3, 2.0)
    assert (answer.size, answer.output_format) == ("128x64", "webp")


@pytest.mark.parametrize("model", ["gpt-image-1", "dall-e-3", "no such/model", "x" * 200])
def test_a_model_of_somebody_elses_is_the_default_one_and_the_answer_says_so(client, wish, model):
    assert client.images.generate(prompt=wish, model=model).model == "sd"


def test_what_front_ends_send_besides_is_taken(client, wish):
    client.images.generate(
        prompt=wish,
        size="auto",
        quality="auto",
        background="auto",
        moderation="auto",
        output_format="png",
        style="vivid",
        user="somebody",
        response_format="b64_json",
    )


def test_a_url_is_a_link_that_paints_when_it_is_opened(client, emulator, wish):
    answer = client.images.generate(prompt=wish, response_format="url", extra_body={"seed": 7})

    assert bodies(emulator) == []
    # The emulated API Gateway says, as the real one does, that it was reached by HTTPS.
    link = answer.data[0].url.replace("https://", "http://")
    opened = requests.get(link, timeout=30)
    assert Image.open(io.BytesIO(opened.content)).format == "PNG"
    assert [asked["prompt"] for asked in bodies(emulator)] == [wish]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 1_001}, "prompt"),
        ({"n": 5}, "n"),
        ({"n": 0}, "n"),
        ({"size": "huge"}, "size"),
        ({"size": "100x100"}, "size"),
        ({"size": "1536x1536", "n": 4}, "n"),
        ({"output_format": "gif"}, "output_format"),
        ({"response_format": "html"}, "response_format"),
        ({"extra_body": {"steps": 0}}, "steps"),
        ({"extra_body": {"nonsense": 1}}, "nonsense"),
        ({"extra_body": {"stream": True}}, "stream"),
    ],
)
def test_a_wrong_field_is_a_bad_request_that_names_it(client, emulator, arguments, field):
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.generate(**{"prompt": "a cat", **arguments})

    assert raised.value.param == field
    assert raised.value.type == "invalid_request_error"
    assert raised.value.request_id
    assert emulator.requests() == []


def test_the_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["sd", "gone", "sdxl", "both"]


def test_a_picture_that_is_too_slow_is_not_asked_for_again(client, emulator, wish):
    with (
        emulator.fault(ENDPOINT, "slow", seconds=30),
        pytest.raises(openai.InternalServerError) as raised,
    ):
        client.images.generate(prompt=wish)

    assert raised.value.status_code == 504
    assert len(emulator.requests(ENDPOINT)) == 1


def test_a_slow_model_is_one_post_one_run_and_a_picture(client, emulator, wish, cold):  # noqa: F811
    answer = client.images.generate(prompt=wish, model="sdxl")

    assert picture(answer.data[0]).format == "PNG"
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_two_slow_pictures_come_together(client, emulator, wish, cold):  # noqa: F811
    answer = client.images.generate(prompt=wish, model="sdxl", n=2, extra_body={"seed": 1})

    assert [data.seed for data in answer.data] == [1, 2]
    assert len({data.b64_json for data in answer.data}) == 2
    assert emulator.runs(ASYNC_ENDPOINT) == 2


class Proxy(QuietHandler):
    """Passes requests on, and lets the first few answers end as API Gateway's own 504."""

    def do_POST(self):
        answer = requests.request(
            self.command,
            self.server.door + self.path,
            data=self.body() or None,
            headers={"Content-Type": "application/json"},
            allow_redirects=False,
            timeout=60,
        )
        self.server.seen.append(self.command)
        if len(self.server.seen) <= 2:
            body = b'{"message": "Endpoint request timed out"}'
            return self.answer(504, [("Content-Type", "application/json")], body)
        headers = [("Content-Type", answer.headers["Content-Type"])]
        if "Location" in answer.headers:
            headers.append(("Location", answer.headers["Location"]))
        return self.answer(answer.status_code, headers, answer.content)

    do_GET = do_POST


def test_gateway_timeouts_in_between_change_nothing_but_time(door, emulator, wish, cold):  # noqa: F811
    seen = []
    with (
        serving(Proxy, door=door.removesuffix("/api"), seen=seen) as proxy,
        openai.OpenAI(base_url=f"{proxy.url}/api/v1", api_key="none") as client,
    ):
        answer = client.images.generate(prompt=wish, model="sdxl", extra_body={"seed": 7})

    assert picture(answer.data[0]).format == "PNG"
    assert seen.count("POST") == 3  # the library resends twice, and finds the same job
    assert emulator.runs(ASYNC_ENDPOINT) == 1


# --- Node -----------------------------------------------------------------------------------------


@pytest.fixture
def generate(node):
    return lambda url, **body: node("generate.js", url, body)


def test_the_library_for_node_gets_its_picture(door, generate, emulator, wish):
    answer = generate(f"{door}/v1", prompt=wish)

    content = base64.b64decode(answer["data"][0]["b64_json"])
    assert Image.open(io.BytesIO(content)).format == "PNG"
    assert [asked["prompt"] for asked in bodies(emulator)] == [wish]


def test_the_library_for_node_waits_for_a_slow_model(door, generate, emulator, wish, cold):  # noqa: F811
    answer = generate(f"{door}/v1", prompt=wish, model="sdxl")

    content = base64.b64decode(answer["data"][0]["b64_json"])
    assert Image.open(io.BytesIO(content)).format == "PNG"
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_the_library_for_node_understands_errors(door, generate):
    told = generate(f"{door}/v1", prompt="a cat", n=9)

    assert told["status"] == 400
    assert told["error"]["param"] == "n"
