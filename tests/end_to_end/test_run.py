"""What `./setup.sh run` starts: the whole of Easel with a real diffusers model."""

import base64
import io
import json
import signal
import subprocess
import sys
import time

import pytest
import requests
from PIL import Image, ImageStat
from sd_parsers import ParserManager

from endpoint.emulator.process.clients import Clients
from endpoint.emulator.process.processes import free_port
from tests.packages import ROOT

READY = "Easel is at http://127.0.0.1:{port}/api/"


@pytest.fixture(scope="module")
def easel():
    port = free_port()
    command = [sys.executable, "-m", "endpoint.emulator", "run", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        said = _read_until(process, READY.format(port=port))
        yield process, said, f"http://127.0.0.1:{port}/api"
        process.terminate()


def _read_until(process, line):
    said = []
    for output in process.stdout:
        said.append(output.strip())
        if output.strip() == line:
            return said
    raise AssertionError("\n".join(said))


def get(url, **parameters):
    return requests.get(url, params=parameters, timeout=60)


def test_a_prompt_becomes_a_picture(easel):
    _, _, url = easel
    response = get(f"{url}/inference/a red apple", seed=7)

    picture = Image.open(io.BytesIO(response.content))
    assert response.headers["Content-Type"] == "image/png"
    assert min(picture.size) >= 128


def test_the_options_name_the_models_own_defaults(easel):
    _, _, url = easel
    (model,) = get(f"{url}/options").json()["models"]

    assert model["name"] == "sd"
    assert model["asynchronous"] is False
    assert model["defaults"] == {"steps": 20, "guidance_scale": 3.0, "width": 128, "height": 128}


def test_the_options_have_the_models_own_description_and_surprises_its_words(easel):
    _, _, url = easel
    written = json.loads((ROOT / "model_package/demo/weights/easel.json").read_text("utf-8"))
    (model,) = get(f"{url}/options").json()["models"]
    assert {name: model[name] for name in ("about", "examples", "vocabulary")}.items() <= (
        written.items()
    )
    names = [entry if isinstance(entry, str) else entry[0]
             for entries in model["vocabulary"].values() for entry in entries]  # fmt: skip
    known = {word for name in names for word in name.split()}
    for seed in range(20):
        words = set(get(f"{url}/sentence", seed=seed).json()["sentence"].split())
        assert words <= known


def test_the_same_url_gives_the_same_bytes_and_another_seed_does_not(easel):
    _, _, url = easel
    bodies = [get(f"{url}/inference/a red apple", seed=seed).content for seed in (7, 7, 8)]

    assert bodies[0] == bodies[1] != bodies[2]


def test_a_picture_whose_request_names_the_seed_is_stored(easel):
    _, _, url = easel
    address = f"{url}/inference/a stored apple"

    def stored(**parameters):
        (picture,) = get(address, dry_run=1, **parameters).json()["pictures"]
        return picture["exists"]

    assert not stored(seed=7, steps=2)
    assert get(address, seed=7, steps=2).status_code == 200
    assert stored(seed=7, steps=2)
    assert not stored(seed=8, steps=2)


def test_the_file_says_what_made_it(easel):
    _, _, url = easel
    response = get(f"{url}/inference/a red apple", seed=7, steps=3, negative_prompt="a worm")

    info = ParserManager().parse(Image.open(io.BytesIO(response.content)))
    assert [str(prompt) for prompt in info.prompts] == ["a red apple"]
    assert [str(prompt) for prompt in info.negative_prompts] == ["a worm"]
    (sampler,) = info.samplers
    assert str(sampler.parameters["seed"]) == "7"
    assert str(sampler.parameters["steps"]) == "3"


def test_the_web_uis_dialect_returns_what_the_file_says(easel):
    _, _, url = easel
    body = {"prompt": "a red apple", "seed": 7, "steps": 3}
    described = requests.post(f"{url}/sdapi/v1/txt2img", json=body, timeout=60).json()

    info = json.loads(described["info"])
    picture = Image.open(io.BytesIO(base64.b64decode(described["images"][0])))
    assert info["infotexts"] == [picture.text["parameters"]]
    assert (info["steps"], info["cfg_scale"], info["seed"]) == (3, 3, 7)
    assert (info["width"], info["height"]) == picture.size
    assert f"Sampler: {info['sampler_name']}" in info["infotexts"][0]


def test_an_adapter_that_is_put_into_the_bucket_can_be_used_at_once(easel):
    _, said, url = easel
    emulated = next(line.rpartition(" ")[2] for line in said if "AWS is emulated" in line)
    s3 = Clients(lambda: emulated).get("s3", "us-east-1")
    path = ROOT / "model_package/demo/weights/loras/pixel.safetensors"
    s3.put_object(Bucket="easel-local", Key="loras/sd/late.safetensors", Body=path.read_bytes())
    late, own = (
        get(f"{url}/inference/a red apple", seed=7, steps=3, lora=name)
        for name in ("late", "pixel")
    )

    assert late.status_code == own.status_code == 200
    pictures = [Image.open(io.BytesIO(response.content)) for response in (late, own)]
    assert pictures[0].tobytes() == pictures[1].tobytes()
    assert get(f"{url}/options").json()["models"][0]["loras"] == ["late", "outline", "pixel"]


def test_the_model_is_taught_by_a_job_and_the_adapter_is_used_at_once(easel):
    _, said, url = easel
    picture = get(f"{url}/inference/a red apple", seed=7, steps=2).content
    files = [{"type": "image/png", "size": len(picture)}]
    uploaded = requests.post(f"{url}/datasets", json={"files": files}, timeout=60).json()
    (form,) = uploaded["uploads"]
    sent = requests.post(form["url"], data=form["fields"], files={"file": picture}, timeout=60)
    assert sent.status_code == 204
    job = {"dataset": uploaded["dataset"], "name": "apple", "instance_prompt": "an apple"}
    started = requests.post(f"{url}/train", json={**job, "steps": 2, "conv": False}, timeout=60)
    assert started.status_code == 202, started.text

    # Published by the event of its end: nobody asks for the job.
    emulated = next(line.rpartition(" ")[2] for line in said if "AWS is emulated" in line)
    s3 = Clients(lambda: emulated).get("s3", "us-east-1")
    adapter, until = "loras/sd/apple.safetensors", time.monotonic() + 300
    while not s3.list_objects_v2(Bucket="easel-local", Prefix=adapter)["KeyCount"]:
        assert time.monotonic() < until, get(f"{url}/train/{started.json()['id']}").json()
        time.sleep(0.5)
    shown = get(f"{url}/train/{started.json()['id']}").json()
    assert shown["state"] == "published"
    assert len(shown["loss"]) == 2
    with_it, without = (
        get(f"{url}/inference/an apple", seed=7, steps=2, lora=name) for name in ("apple", "")
    )
    assert with_it.status_code == without.status_code == 200
    assert with_it.content != without.content


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, {"source": "aws.s3"}, 500),
        ({}, {"requestContext": {}}, 400),
        ({"Origin": "https://evil.example"}, {"source": "aws.s3"}, 403),
        ({"Origin": "null"}, {"source": "aws.s3"}, 403),
    ],
)
def test_only_events_of_services_invoke_the_function(easel, headers, body, status):
    _, _, url = easel
    path = "/2015-03-31/functions/function/invocations"
    response = requests.post(
        url.removesuffix("/api") + path, json=body, headers=headers, timeout=30
    )

    assert response.status_code == status


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_other_formats_come_from_the_model_itself(easel, format):
    _, _, url = easel
    response = get(f"{url}/inference/a red apple", seed=7, steps=2, format=format)

    assert response.headers["Content-Type"] == f"image/{format}"
    assert Image.open(io.BytesIO(response.content)).format == format.upper()


def test_a_size_is_kept_and_one_that_is_too_small_for_the_contract_refused(easel):
    _, _, url = easel
    response = get(f"{url}/inference/x", steps=2, width=192, height=128)
    picture = Image.open(io.BytesIO(response.content))

    assert picture.size == (192, 128)
    assert get(f"{url}/inference/x", width=60).json()["error"]["field"] == "width"


def in_openais_dialect(url, size):
    body = {"prompt": "a red apple", "seed": 7, "size": size}
    return requests.post(f"{url}/v1/images/generations", json=body, timeout=60)


def in_the_web_uis_dialect(url, size):
    width, height = map(int, size.split("x"))
    body = {"prompt": "a red apple", "seed": 7, "steps": 2, "width": width, "height": height}
    return requests.post(f"{url}/sdapi/v1/txt2img", json=body, timeout=60)


@pytest.mark.parametrize("ask", [in_openais_dialect, in_the_web_uis_dialect])
@pytest.mark.parametrize(("size", "painted"), [("1024x512", "176x88"), ("512x768", "96x144")])
def test_the_sizes_that_clients_send_by_default_are_scaled_up_from_what_the_model_can(
    easel, ask, size, painted
):
    _, _, url = easel
    response = ask(url, size)

    described = response.json()
    encoded = described["images"][0] if "images" in described else described["data"][0]["b64_json"]
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert "{}x{}".format(*picture.size) == size
    assert response.headers["X-Painted-Size"] == painted
    assert f"Size: {size}, Painted size: {painted}" in picture.text["parameters"]


def test_a_run_that_nobody_waits_for_is_refused_and_the_next_picture_is_as_ever(easel):
    _, said, url = easel
    (aws,) = [line.rpartition(" ")[2] for line in said if line.startswith("AWS is emulated at")]
    runtime = Clients(lambda: aws).get("sagemaker-runtime", "us-east-1")
    before = get(f"{url}/inference/a red apple", seed=7, steps=4).content

    with pytest.raises(runtime.exceptions.ModelError) as raised:
        runtime.invoke_endpoint(
            EndpointName="easel-sd",
            ContentType="application/json",
            Accept="image/png",
            CustomAttributes="an-id;within=0.1",
            Body=json.dumps({"prompt": "a red apple", "steps": 100}),
        )
    assert raised.value.response["OriginalStatusCode"] == 503
    assert json.loads(raised.value.response["OriginalMessage"])["error"]["code"] == "busy"
    assert get(f"{url}/inference/a red apple", seed=7, steps=4).content == before


def colour(picture, box):
    """Return the average red, green and blue of a part of a picture, in eighths."""
    left, top, right, bottom = (edge * picture.width // 8 for edge in box)
    return ImageStat.Stat(picture.convert("RGB").crop((left, top, right, bottom))).mean


CENTRE, GROUND, CORNER = (3, 3, 5, 5), (0, 7, 8, 8), (0, 0, 1, 1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_picture_is_of_what_was_typed(easel, seed):
    _, _, url = easel

    def paint(prompt):
        return Image.open(io.BytesIO(get(f"{url}/inference/{prompt}", seed=seed).content))

    red, green, blue = colour(paint("a red apple"), CENTRE)
    assert red > 150 > max(green, blue) + 50
    red, green, blue = colour(paint("a green apple"), CENTRE)
    assert green > max(red, blue) + 20
    red, green, blue = colour(paint("a penguin on grass"), GROUND)
    assert green > max(red, blue) + 30
    red, green, blue = colour(paint("a dog on a blue background"), CORNER)
    assert blue > max(red, green) + 50


def test_guidance_and_the_negative_prompt_matter(easel):
    _, _, url = easel
    plain, unguided, without = (
        Image.open(io.BytesIO(get(f"{url}/inference/a red apple", seed=7, steps=4, **more).content))
        for more in ({}, {"guidance_scale": 0}, {"negative_prompt": "red"})
    )

    assert plain.tobytes() != unguided.tobytes()
    assert plain.tobytes() != without.tobytes()


def test_sigterm_ends_it_and_frees_its_port(easel):
    process, _, url = easel
    process.send_signal(signal.SIGTERM)

    assert process.wait(60) == 0
    with pytest.raises(requests.ConnectionError):
        get(f"{url}/health")
