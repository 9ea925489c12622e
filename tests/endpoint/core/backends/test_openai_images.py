"""The generic backend: only what is configured is sent, because servers ignore unknown fields."""

import json

import pytest

from endpoint.core.backends.backend import BadAnswer
from endpoint.core.backends.setting import read
from endpoint.core.generation import GenerationRequest, InvalidField

PLAIN = read("openai-images")
SGLANG = read({"name": "openai-images", "accepts": ["seed", "steps", "format", "seed"]})


def request(**fields):
    return GenerationRequest(prompt="a cat", model="flux", **fields)


def test_a_plain_server_gets_prompt_and_size():
    invocation = PLAIN.invocation(request(width=512, height=512), "trace-1")

    assert json.loads(invocation.body) == {
        "prompt": "a cat",
        "n": 1,
        "size": "512x512",
        # SGLang's own default is a URL, which needs cloud storage.
        "response_format": "b64_json",
        # Its default format is JPEG.
        "output_format": "png",
    }
    assert (invocation.accept, invocation.attributes) == ("application/json", "trace-1")


@pytest.mark.parametrize("fields", [{"seed": 7}, {"steps": 4}, {"format": "webp"}])
def test_fields_are_sent_where_they_are_configured_and_refused_elsewhere(fields):
    SGLANG.check(request(**fields))
    with pytest.raises(InvalidField, match=next(iter(fields))):
        PLAIN.check(request(**fields))


def test_the_configured_fields_have_the_words_of_diffusers():
    sent = json.loads(SGLANG.invocation(request(seed=7, steps=4, format="webp"), "").body)

    assert (sent["seed"], sent["num_inference_steps"], sent["output_format"]) == (7, 4, "webp")


def test_a_url_is_no_picture():
    with pytest.raises(BadAnswer, match="b64_json"):
        PLAIN.picture(b'{"data": [{"url": "https://example.com/a.png"}]}', "application/json")
