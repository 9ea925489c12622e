"""What front ends are known to send, through both gateways."""

import base64
import io
import json

import pytest
import requests
from PIL import Image

from tests.recorded import BODIES


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
