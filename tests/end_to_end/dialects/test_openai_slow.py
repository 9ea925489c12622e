"""OpenAI's own library for Python, unmodified, with models that take long."""

import openai
import pytest

from endpoint.emulator.process.http_server import serving
from tests.end_to_end.account import ASYNC_ENDPOINT, ENDPOINT
from tests.end_to_end.calls import picture
from tests.end_to_end.doubles import TimeoutProxy


@pytest.fixture
def client(impatient_url):
    with openai.OpenAI(base_url=f"{impatient_url}/v1", api_key="none") as client:
        yield client


def test_a_picture_that_is_too_slow_is_not_asked_for_again(client, emulator, prompt):
    with (
        emulator.fault(ENDPOINT, "slow", seconds=30),
        pytest.raises(openai.InternalServerError) as raised,
    ):
        client.images.generate(prompt=prompt)

    assert raised.value.status_code == 504
    assert len(emulator.requests(ENDPOINT)) == 1


def test_a_slow_model_is_one_post_one_run_and_a_picture(client, emulator, prompt, colder):
    answer = client.images.generate(prompt=prompt, model="sdxl")

    assert picture(answer.data[0]).format == "PNG"
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_two_slow_pictures_come_together(client, emulator, prompt, cold):
    answer = client.images.generate(prompt=prompt, model="sdxl", n=2, extra_body={"seed": 1})

    assert [data.seed for data in answer.data] == [1, 2]
    assert len({data.b64_json for data in answer.data}) == 2
    assert emulator.runs(ASYNC_ENDPOINT) == 2


def test_gateway_timeouts_in_between_change_nothing_but_time(impatient_url, emulator, prompt, cold):
    seen = []
    with (
        serving(TimeoutProxy, gateway=impatient_url.removesuffix("/api"), seen=seen) as proxy,
        openai.OpenAI(base_url=f"{proxy.url}/api/v1", api_key="none") as client,
    ):
        answer = client.images.generate(prompt=prompt, model="sdxl", extra_body={"seed": 7})

    assert picture(answer.data[0]).format == "PNG"
    assert seen.count("POST") == 3  # the library resends twice, and finds the same job
    assert emulator.runs(ASYNC_ENDPOINT) == 1
