"""A gateway with keys, seen by programs that speak another API."""

import base64

import pytest

from tests import recorded
from tests.gateway.documented import response_as_documented
from tests.gateway.doubles import KEY

GENERATING = ["/v1/images/generations", "/sdapi/v1/txt2img"]


def basic(key):
    return "Basic " + base64.b64encode(f"somebody:{key}".encode()).decode()


@pytest.mark.parametrize("name", recorded.BODIES)
def test_a_program_generates_with_its_key_where_it_puts_it(guarded_client, name):
    each = recorded.BODIES[name]
    bearer = each["path"].startswith("/v1")
    authorization = f"Bearer {KEY}" if bearer else basic(KEY)

    response = guarded_client.post(each["path"], each["body"], Authorization=authorization)

    assert response.status_code == 200, response.body


@pytest.mark.parametrize("path", GENERATING)
@pytest.mark.parametrize("headers", [{}, {"Authorization": basic("wrong")}])
def test_without_it_the_answer_is_a_401_as_the_document_says(guarded_client, path, headers):
    response = guarded_client.post(path, {"prompt": "a cat"}, **headers)

    assert response.status_code == 401
    response_as_documented(path, "post", response)


@pytest.mark.parametrize("path", GENERATING)
def test_a_wrong_field_is_answered_as_the_document_says(guarded_client, path):
    response = guarded_client.post(path, {"prompt": "a cat", "steps": 0}, x_api_key=KEY)

    response_as_documented(path, "post", response)


@pytest.mark.parametrize("name", ["options", "sd-models", "samplers", "progress", "upscalers"])
def test_the_lists_of_a_web_ui_require_the_key_as_well(guarded_client, name):
    assert guarded_client.get(f"/sdapi/v1/{name}").status_code == 401
    assert guarded_client.get(f"/sdapi/v1/{name}", Authorization=basic(KEY)).status_code == 200
