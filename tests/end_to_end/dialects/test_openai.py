"""OpenAI's own client libraries, unmodified, with nothing changed but the base URL."""

import io

import openai
import pytest
import requests
from PIL import Image

from tests.end_to_end.account import MODELS
from tests.end_to_end.calls import bodies, picture


@pytest.fixture
def client(gateway_url):
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="none") as client:
        yield client


def test_a_picture_comes_back_as_base64(client, emulator, prompt):
    answer = client.images.generate(prompt=prompt, model="sd")

    assert picture(answer.data[0]).format == "PNG"
    assert answer.created > 1_700_000_000
    (request,) = bodies(emulator)
    assert request["prompt"] == prompt
    assert answer.data[0].seed == request["seed"]


def test_n_pictures_have_n_seeds(client, emulator, prompt):
    answer = client.images.generate(prompt=prompt, n=3, extra_body={"seed": 4_294_967_295})

    seeds = [data.seed for data in answer.data]
    assert seeds == [4_294_967_295, 0, 1]
    assert sorted(request["seed"] for request in bodies(emulator)) == sorted(seeds)
    assert len({data.b64_json for data in answer.data}) == 3


def test_size_format_and_the_contracts_own_fields_arrive(client, emulator, prompt):
    answer = client.images.generate(
        prompt=prompt,
        size="128x64",
        output_format="webp",
        extra_body={"negative_prompt": "a dog", "steps": 3, "guidance_scale": 2},
    )

    assert picture(answer.data[0]).format == "WEBP"
    assert picture(answer.data[0]).size == (128, 64)
    (request,) = bodies(emulator)
    assert request["negative_prompt"] == "a dog"
    assert (request["steps"], request["guidance_scale"]) == (3, 2.0)
    assert (answer.size, answer.output_format) == ("128x64", "webp")


@pytest.mark.parametrize("model", ["gpt-image-1", "dall-e-3", "no such/model", "x" * 200])
def test_a_model_of_somebody_elses_is_the_default_one_and_the_answer_says_so(client, prompt, model):
    assert client.images.generate(prompt=prompt, model=model).model == "sd"


def test_what_front_ends_send_besides_is_taken(client, prompt):
    client.images.generate(
        prompt=prompt,
        size="auto",
        quality="auto",
        background="auto",
        moderation="auto",
        output_format="png",
        style="vivid",
        user="somebody",
        response_format="b64_json",
    )


def test_a_url_is_a_link_that_paints_when_it_is_opened(client, emulator, prompt):
    answer = client.images.generate(prompt=prompt, response_format="url", extra_body={"seed": 7})

    assert bodies(emulator) == []
    # The emulated API Gateway says, as the real one does, that it was reached by HTTPS.
    link = answer.data[0].url.replace("https://", "http://")
    opened = requests.get(link, timeout=30)
    assert Image.open(io.BytesIO(opened.content)).format == "PNG"
    assert [request["prompt"] for request in bodies(emulator)] == [prompt]


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
    assert [model.id for model in client.models.list()] == [*MODELS]
