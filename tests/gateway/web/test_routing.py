"""The border to Chalice, through the whole app."""

import io

import pytest
from PIL import Image

from tests.gateway.doubles import BROWSER


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


def test_every_answer_forbids_sniffing(client):
    for path in ("/", "/options", "/inference/a", "/inference/a?steps=0"):
        assert client.get(path).headers["X-Content-Type-Options"] == "nosniff"


def test_a_method_that_no_route_has_is_answered_in_bytes(client):
    response = client.get("/inference/a%20cat", "PUT")

    assert response.status_code == 405
    assert isinstance(response.body, bytes)
