"""What each dialect says of a picture that was painted smaller and scaled up."""

import json

import pytest

from chalicelib.settings import Model

SIZES = [("1024x512", "176x88"), ("512x768", "96x144"), ("1024x1024", "128x128")]


@pytest.fixture
def small(client):
    """A client of a gateway whose model is good for 128 x 128 pixels."""
    own = {"width": 128, "height": 128}
    client.offer({"sd": Model("sd", "easel-sd", defaults=own, largest_area=128 * 128)})
    return client


@pytest.mark.parametrize(("size", "painted"), SIZES)
def test_a_picture_says_so_in_a_header(small, size, painted):
    width, height = size.split("x")
    address = f"/inference/a%20cat?seed=7&width={width}&height={height}"
    response = small.get(address)
    stored = small.get(address, **{"If-None-Match": response.headers["ETag"]})

    assert response.headers["X-Painted-Size"] == painted
    assert (stored.status_code, stored.headers["X-Painted-Size"]) == (304, painted)
    # The model server scales: it is sent the size that was asked for.
    assert (small.asked[0]["width"], small.asked[0]["height"]) == (int(width), int(height))


@pytest.mark.parametrize(("size", "painted"), SIZES)
def test_openais_response_says_so_beside_the_size(small, size, painted):
    body = json.dumps({"prompt": "a cat", "size": size}).encode()
    response = small.post("/v1/images/generations", body)

    described = json.loads(response.body)
    assert (described["size"], described["painted_size"]) == (size, painted)
    assert response.headers["X-Painted-Size"] == painted


@pytest.mark.parametrize(("size", "painted"), SIZES)
def test_the_web_uis_info_says_so_among_its_extra_parameters(small, size, painted):
    width, height = map(int, size.split("x"))
    body = json.dumps({"prompt": "a cat", "width": width, "height": height}).encode()
    response = small.post("/sdapi/v1/txt2img", body)

    info = json.loads(json.loads(response.body)["info"])
    assert info["extra_generation_params"] == {"Painted size": painted}
    assert response.headers["X-Painted-Size"] == painted


def test_a_side_that_is_left_out_is_the_models_own(small):
    assert small.get("/inference/a%20cat?width=256").headers["X-Painted-Size"] == "176x88"


@pytest.mark.parametrize("size", [{}, {"width": 128, "height": 128}, {"width": 64}])
def test_nothing_is_said_of_a_picture_that_the_model_paints_as_it_is(small, size):
    query = "&".join(f"{name}={pixels}" for name, pixels in size.items())
    picture = small.get(f"/inference/a%20cat?{query}")
    body = json.dumps({"prompt": "a cat", **size}).encode()
    web_ui = small.post("/sdapi/v1/txt2img", body)

    assert "X-Painted-Size" not in picture.headers
    assert "X-Painted-Size" not in web_ui.headers
    assert json.loads(json.loads(web_ui.body)["info"])["extra_generation_params"] == {}


def test_the_options_name_the_largest_area(small):
    (model,) = json.loads(small.get("/options").body)["models"]

    assert model["largest_area"] == 128 * 128


def test_without_a_largest_area_and_without_defaults_nothing_is_said(client):
    for query in ("width=1024&height=1024", "width=1024"):
        assert "X-Painted-Size" not in client.get(f"/inference/a%20cat?{query}").headers
