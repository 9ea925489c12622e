"""What programs are known to send, through both gateways."""

import base64
import io
import json

import pytest
import requests
from PIL import Image

from tests.end_to_end.access import KEY
from tests.recorded import BODIES, PROGRAMS


@pytest.mark.parametrize("name", BODIES)
def test_it_is_painted(gateway_url, name):
    recorded = BODIES[name]
    answer = requests.post(f"{gateway_url}{recorded['path']}", json=recorded["body"], timeout=30)

    assert answer.status_code == 200, answer.text
    described = answer.json()
    if recorded["path"].startswith("/sdapi"):
        pictures = described["images"]
        assert json.loads(described["info"])["infotexts"][0].startswith(recorded["body"]["prompt"])
    else:
        pictures = [data["b64_json"] for data in described["data"]]
    for picture in pictures:
        assert Image.open(io.BytesIO(base64.b64decode(picture))).size[0] >= 64


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gets_what_it_needs(gateway_url, name):
    for each in PROGRAMS[name]["requests"]:
        check(send(gateway_url, each), each["expect"])


WITH_A_KEY = [
    name
    for name, program in PROGRAMS.items()
    if all("authorization" in each["headers"] for each in program["requests"])
]


@pytest.mark.parametrize("name", WITH_A_KEY)
def test_a_program_gets_the_same_with_a_key(guarded_local, name):
    assert len(WITH_A_KEY) > 5
    for each in PROGRAMS[name]["requests"]:
        check(send(guarded_local, each), each["expect"])


def test_a_program_with_a_wrong_key_is_refused(guarded_local):
    for name in WITH_A_KEY:
        for each in PROGRAMS[name]["requests"]:
            public = each["method"] == "GET" and each["path"].startswith("/v1/models")
            assert public or send(guarded_local, each, "wrong").status_code == 401


def send(gateway_url, each, key=KEY):
    """Send a request as it was recorded."""
    headers = dict(each["headers"])
    kind, _, credentials = headers.get("authorization", "").partition(" ")
    if kind == "Basic":
        credentials = credentials.replace("KEY", key).encode()
        headers["authorization"] = f"Basic {base64.b64encode(credentials).decode()}"
    elif kind:
        headers["authorization"] = f"{kind} {key}"
    return requests.request(
        each["method"],
        f"{gateway_url}{each['path']}",
        data=json.dumps(each["body"]) if "body" in each else None,
        headers=headers,
        timeout=60,
    )


def check(response, expected):
    assert response.status_code == expected.get("status", 200), response.text
    described = response.json()
    shape = expected.get("shape")
    if shape:
        pictures = described["images"] if shape == "images" else described["data"]
        pictures = [picture if shape == "images" else picture[shape] for picture in pictures]
        assert len(pictures) == expected["pictures"]
        image = Image.open(io.BytesIO(content(pictures[0], shape)))
        assert list(image.size) == expected.get("size", list(image.size))
    if "model" in expected:
        info = json.loads(described["info"])["sd_model_name"] if shape == "images" else ""
        assert expected["model"] in (
            info, described.get("model"), described.get("sd_model_checkpoint")
        )  # fmt: skip
    if "names" in expected:
        names = [entry.get("name", entry.get("title")) for entry in described]
        assert [name for name in names if name in expected["names"]] == expected["names"]
        assert expected["names"] or not names
    assert expected.get("message", "") in response.text


def content(picture, shape):
    if shape != "url":
        return base64.b64decode(picture)
    # API Gateway is at HTTPS; the emulated one only says so.
    return requests.get(picture.replace("https://127", "http://127"), timeout=60).content


def test_sillytavern_finds_what_it_asks_for_before_it_paints(gateway_url):
    """By src/endpoints/stable-diffusion.js of SillyTavern 1.12.6 (see the recorded body)."""

    def get(name):
        answer = requests.get(f"{gateway_url}/sdapi/v1/{name}", timeout=30)
        assert answer.ok
        return answer.json()

    assert get("options")["sd_model_checkpoint"] == "sd"
    assert get("sd-models")[0]["title"] == "sd"
    for name in ("upscalers", "latent-upscale-modes", "samplers", "schedulers", "sd-vae"):
        assert isinstance(get(name), list)
    described = get("progress")
    assert (described["progress"], described["state"]["job_count"]) == (0.0, 0)


def test_an_address_without_a_path_leads_there_as_well(chalice_local):
    """SillyTavern keeps only the host of the address that it is given."""
    body = BODIES["sillytavern_auto"]["body"]
    root = chalice_local.removesuffix("/api")
    answer = requests.post(f"{root}/sdapi/v1/txt2img", json=body, timeout=30)

    assert len(answer.json()["images"]) == 1
