"""Addresses that do not exist: people must not look for a wrong key."""

import http.client
from urllib.parse import urlsplit

import openai
import pytest
import requests

from tests.end_to_end.access import AUTHORIZED
from tests.end_to_end.calls import BROWSER

# Of a base URL with a part too many or too few, and of doubled slashes.
WRONG = ["/v1//images/generations", "/images/generations", "/v1/v1/models", "//health", "/nothing"]
WRONG += ["/inference/a/b", "/sdapi/txt2img"]


@pytest.mark.parametrize("path", WRONG)
@pytest.mark.parametrize("headers", [{}, AUTHORIZED])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_wrong_address_is_a_404_with_the_right_base_url(gateway_url, method, path, headers):
    response = requests.request(method, gateway_url + path, headers=headers, timeout=30)
    message = response.json()["error"]["message"]

    assert response.status_code == 404
    assert "no matter of keys" in message
    assert response.json()["detail"] == message
    assert f"{gateway_url.partition('://')[2]}/v1" in message
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/images/generations"), ("POST", "/inference/a"), ("PUT", "/jobs/x")],
)
def test_a_wrong_method_is_one_as_well(gateway_url, method, path):
    response = requests.request(method, gateway_url + path, timeout=30)

    assert response.status_code == 404
    assert "not with this method" in response.json()["error"]["message"]


def test_an_openai_client_reports_the_right_base_url(gateway_url):
    client = openai.OpenAI(base_url=f"{gateway_url}/v1/v1", api_key="k", max_retries=0)
    with client, pytest.raises(openai.NotFoundError, match="The base URL is"):
        client.images.generate(prompt="a cat")


@pytest.mark.parametrize("path", ["/inference/a?seed=1", "/options", "/", "/nothing"])
def test_a_response_to_head_states_no_length_that_get_has_not(gateway_url, path):
    head = requests.head(gateway_url + path, timeout=30)
    get = requests.get(gateway_url + path, timeout=30, headers={"Accept-Encoding": "identity"})

    assert head.headers.get("Content-Length") in {None, str(len(get.content))}
    assert head.status_code == get.status_code


@pytest.mark.parametrize("target", ["//evil.example/api/{}", "http://evil.example/api/{}"])
def test_no_redirect_of_the_local_gateway_leads_elsewhere(chalice_local, target):
    connection = http.client.HTTPConnection(urlsplit(chalice_local).netloc, timeout=30)
    headers = {**BROWSER, "Host": urlsplit(chalice_local).netloc}
    connection.request("GET", target.format("inference?prompt=a&seed=1"), headers=headers)
    response = connection.getresponse()
    connection.close()

    location = response.headers.get("Location", "/api/")
    assert location.startswith("/api/")
