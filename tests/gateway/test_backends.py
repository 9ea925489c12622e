"""Models behind other servers than Easel's own: each wire, through the whole gateway."""

import base64
import io
import json
import random
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from chalicelib.aws.deadline import Deadline
from chalicelib.aws.sagemaker import Endpoint, failure_of
from chalicelib.backends.backend import MEDIA_TYPES, OPTIONAL, WORDS
from chalicelib.backends.setting import NAMES, read
from chalicelib.errors import GatewayError, InvalidRequest, JobFailed, PictureTooLarge
from chalicelib.generation import GenerationRequest
from chalicelib.image_files import LARGEST_PICTURE
from chalicelib.images.resolved_request import complete
from chalicelib.images.service import ImageService
from chalicelib.settings import BadSetting, Settings
from tests.gateway.doubles import (
    BROWSER,
    FORMATS,
    KEY,
    ORIGIN,
    Breaks,
    Bucket,
    GuardedClient,
    Provided,
    Runs,
    RuntimeClient,
    endpoint_response,
    guarded,
    model_error,
    refusal,
)

ROOT = Path(__file__).parents[2]
DEFAULTS = {"steps": 4, "width": 64, "height": 64}
PATH = "/opt/ml/model/loras/watercolour.safetensors"


def models(backend, **more):
    entry = {"endpoint": "theirs", "defaults": DEFAULTS, "backend": backend, **more}
    return Settings.from_environment({"EASEL_MODELS": json.dumps({"m": entry})}).models


# --- Doubles of the servers -----------------------------------------------------------------------


def painted(size, file_format, **options):
    buffer = io.BytesIO()
    Image.new("RGB", size, "teal").save(buffer, file_format, **options)
    return buffer.getvalue()


def as_json(value):
    return {**endpoint_response(json.dumps(value).encode()), "ContentType": "application/json"}


def as_picture(body, media_type):
    return {**endpoint_response(body), "ContentType": media_type}


class HuggingFace(RuntimeClient):
    """`inputs`, arguments of a pipeline, and the media type of Accept."""

    def invoke_endpoint(self, **arguments):
        super().invoke_endpoint(**arguments)
        body = json.loads(arguments["Body"])
        assert set(body) == {"inputs", "parameters"}
        allowed = set(WORDS.values()) - {"seed"}
        if unknown := set(body["parameters"]) - allowed:
            raise AssertionError(unknown)
        kind = arguments["Accept"]
        size = [body["parameters"].get(side, 64) for side in ("width", "height")]
        return as_picture(painted(size, FORMATS[kind]), kind)


class VllmOmni(RuntimeClient):
    """A route in the attributes; unknown fields are ignored; PNG files without compression."""

    steps = ()

    def invoke_endpoint(self, **arguments):
        super().invoke_endpoint(**arguments)
        route = re.search(r"route=(/[^\s,]+)", arguments["CustomAttributes"])
        if route is None or route[1] != "/v1/images/generations":
            raise model_error(404, {"detail": "Not Found"})
        body = json.loads(arguments["Body"])
        if "model" in body:
            raise model_error(400, {"detail": "Model mismatch"})
        self.steps = (*self.steps, body.get("num_inference_steps", 50))
        size = [int(side) for side in body.get("size", "64x64").split("x")]
        kind = body.get("output_format", "png")
        options = {"compress_level": 0} if kind == "png" else {"quality": 100}
        picture = painted(size, kind, **options)
        if body["response_format"] == "file":
            return as_picture(picture, MEDIA_TYPES[kind])
        return as_json({"data": [{"b64_json": encoded(picture)}]})


class JumpStart(RuntimeClient):
    def invoke_endpoint(self, **arguments):
        super().invoke_endpoint(**arguments)
        body = json.loads(arguments["Body"])
        if arguments["Accept"] != "application/json;jpeg":
            return as_json({"generated_image": [[[0, 0, 0]]], "prompt": body["prompt"]})
        picture = painted((body.get("width", 64), body.get("height", 64)), "jpeg")
        return as_json({"generated_images": [encoded(picture)], "prompt": body["prompt"]})


class OpenAIImages(RuntimeClient):
    def invoke_endpoint(self, **arguments):
        super().invoke_endpoint(**arguments)
        body = json.loads(arguments["Body"])
        if body.get("response_format") != "b64_json":
            raise model_error(400, {"error": {"message": "url needs cloud storage"}})
        # SGLang's default is JPEG.
        picture = painted((64, 64), body.get("output_format", "jpeg"))
        return as_json({"created": 1, "data": [{"b64_json": encoded(picture)}]})


SERVERS = {
    "hugging-face": HuggingFace,
    "vllm-omni": VllmOmni,
    "jumpstart": JumpStart,
    "openai-images": OpenAIImages,
}
OTHERS = sorted(SERVERS)


def encoded(body):
    return base64.b64encode(body).decode()


@pytest.fixture
def behind(client):
    """Return a client of a gateway with one model, whose endpoint has a given backend."""

    def connect(backend, server=None, **more):
        name = backend if isinstance(backend, str) else backend["name"]
        client.endpoint = server or SERVERS[name](None)
        client.offer(models(backend, **more))
        return client

    return connect


def answer_of(response):
    return json.loads(response.body)


def error_of(response):
    return answer_of(response)["error"]


def post(client, path, **fields):
    return client.post(path, json.dumps({"prompt": "a cat", **fields}).encode())


# --- Pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", OTHERS)
def test_every_backend_returns_a_picture_in_every_dialect(behind, backend):
    client = behind(backend)
    kind = read(backend).abilities.formats[0]

    picture = client.get("/inference/a%20cat?width=128&height=64")
    openai = post(client, "/v1/images/generations", n=2)
    web_ui = post(client, "/sdapi/v1/txt2img", seed=-1, negative_prompt="")

    assert picture.headers["Content-Type"] == f"image/{kind}"
    pictures = [row["b64_json"] for row in answer_of(openai)["data"]]
    pictures += answer_of(web_ui)["images"]
    bodies = [picture.body, *map(base64.b64decode, pictures)]
    assert [Image.open(io.BytesIO(body)).format.lower() for body in bodies] == [kind] * 4
    assert answer_of(openai)["output_format"] == kind
    assert len(client.asked) == 4


REFUSED = [
    (backend, field, value)
    for backend in OTHERS
    for field, value in {
        "seed": 7,
        "steps": 5,
        "guidance_scale": 3.5,
        "negative_prompt": "blurry",
        "lora": "watercolour",
    }.items()
    if field in read(backend).missing
]


@pytest.mark.parametrize(("backend", "field", "value"), REFUSED)
def test_what_a_backend_cannot_do_is_refused_by_name_in_every_dialect(
    behind, backend, field, value
):
    client = behind(backend)
    title = read(backend).title

    picture = client.get(f"/inference/a%20cat?{field}={value}")
    openai = post(client, "/v1/images/generations", **{field: value})
    as_url = post(client, "/v1/images/generations", **{field: value}, response_format="url")
    name = {"guidance_scale": "cfg_scale", "lora": "prompt"}.get(field, field)
    asked = {"prompt": f"a cat <lora:{value}:1>"} if field == "lora" else {name: value}
    web_ui = post(client, "/sdapi/v1/txt2img", **asked)

    assert (picture.status_code, error_of(picture)["field"]) == (400, field)
    assert title in error_of(picture)["message"]
    for response in (openai, as_url):
        assert (response.status_code, error_of(response)["param"]) == (400, field)
    (detail,) = answer_of(web_ui)["detail"]
    assert (web_ui.status_code, detail["loc"]) == (422, ["body", name])
    assert client.asked == []


def test_a_format_that_a_backend_has_not_is_refused_by_name(behind):
    client = behind("jumpstart")

    picture = client.get("/inference/a%20cat?format=png")
    openai = post(client, "/v1/images/generations", output_format="png")
    web_ui = post(client, "/sdapi/v1/txt2img", override_settings={"samples_format": "png"})

    assert (picture.status_code, error_of(picture)["field"]) == (400, "format")
    assert (openai.status_code, error_of(openai)["param"]) == (400, "output_format")
    assert error_of(openai)["message"].startswith("output_format: must be one of jpeg for")
    assert answer_of(web_ui)["detail"][0]["loc"] == ["body", "override_settings"]
    assert client.asked == []


def test_a_quality_that_a_backend_cannot_have_is_refused_by_name(behind):
    client = behind("openai-images")

    refused = post(client, "/v1/images/generations", quality="hd")

    assert (refused.status_code, error_of(refused)["param"]) == (400, "quality")
    assert post(client, "/v1/images/generations", quality="standard").status_code == 200


def test_the_options_say_what_is_missing(behind):
    (described,) = answer_of(behind("hugging-face").get("/options"))["models"]
    (jumpstart,) = answer_of(behind("jumpstart").get("/options"))["models"]
    (own,) = answer_of(behind("easel", HuggingFace(None)).get("/options"))["models"]

    assert described["backend"] == "Hugging Face's default handler"
    assert described["unsupported"] == ["seed", "lora"]
    assert jumpstart["formats"] == ["jpeg"]
    assert not {"backend", "unsupported", "formats"} & set(own)


def test_narrower_limits_are_shown_and_kept(behind):
    client = behind("vllm-omni")
    (described,) = answer_of(client.get("/options"))["models"]
    refused = client.get("/inference/a%20cat?guidance_scale=25")

    assert described["limits"]["guidance_scale"] == {"type": "number", "minimum": 0, "maximum": 20}
    assert (refused.status_code, error_of(refused)["field"]) == (400, "guidance_scale")


def test_the_limits_of_a_model_and_of_its_backend_are_shown_and_kept_together(behind):
    backend = {"name": "vllm-omni", "adapters": {"watercolour": PATH}}
    own = {"width": {"maximum": 1_000, "multipleOf": 24}, "steps": {"maximum": 8}}
    client = behind(backend, limits=own, defaults={"steps": 4})

    (described,) = answer_of(client.get("/options"))["models"]
    limits = described["limits"]
    lora = read(backend).abilities.rules["lora"]

    expected = {"type": "integer", "minimum": 64, "maximum": 1_000, "multipleOf": 48}
    assert limits["width"] == expected
    assert (limits["steps"]["maximum"], limits["height"]["multipleOf"]) == (8, 16)
    for width, status in ((96, 200), (72, 400), (1_056, 400), (48, 400)):
        path = f"/inference/a%20cat?width={width}&height=64"
        assert client.get(path).status_code == status
    assert [lora.clean(example) for example in limits["lora"]["examples"]] == ["watercolour:0.8"]


# --- Models that repeat no picture ----------------------------------------------------------------


def test_without_a_seed_every_response_is_another_picture(behind):
    client = behind("hugging-face", pictures="s3://bucket/jobs/m/")

    first, second = (client.get("/inference/a%20cat") for _ in range(2))

    assert len(client.asked) == 2
    for response in (first, second):
        assert response.headers["Cache-Control"] == "no-store"
        assert not {"ETag", "X-Seed"} & set(response.headers)
        assert 'filename="a-cat.png"' in response.headers["Content-Disposition"]
        assert "None" not in str(response.headers)


def test_a_random_sentence_keeps_its_address_without_a_seed(behind):
    client = behind("hugging-face")
    navigation = {"Accept": "text/html", "Sec-Fetch-Dest": "document"}

    redirect = client.get("/inference", **navigation)
    of_a_form = client.get("/inference?prompt=a+cat", **navigation)
    sentence = client.get("/sentence?seed=7")

    assert redirect.status_code == of_a_form.status_code == 303
    for response in (redirect, of_a_form):
        location = response.headers["Location"]
        assert "seed" not in location
        assert client.get(location[location.index("/inference") :]).status_code == 200
    assert answer_of(sentence)["seed"] == 7


def test_the_other_dialects_report_no_seed(behind):
    client = behind("hugging-face")

    openai = post(client, "/v1/images/generations", n=2)
    info = json.loads(answer_of(post(client, "/sdapi/v1/txt2img", batch_size=2))["info"])
    priced = answer_of(client.get("/inference/a%20cat?dry_run=true"))

    assert all("seed" not in row for row in answer_of(openai)["data"])
    assert (info["seed"], info["all_seeds"]) == (-1, [-1, -1])
    assert priced["pictures"][0]["seed"] is None


def test_the_url_of_a_picture_without_a_seed_leads_to_one(behind):
    client = behind("hugging-face")

    rows = answer_of(post(client, "/v1/images/generations", response_format="url"))["data"]
    url = rows[0]["url"]

    assert "seed" not in url
    assert client.get(url[url.index("/inference") :]).status_code == 200


def with_keys(monkeypatch, offered, runtime, bucket=None):
    """Return a client of a gateway with keys, and with a bucket for links."""
    gateway = GuardedClient(monkeypatch, guarded())
    gateway.bucket = bucket or gateway.bucket
    gateway.settings = replace(gateway.settings, models=offered)
    gateway.service = ImageService(gateway.settings, Provided(runtime), Provided(gateway.bucket))
    return gateway


def paths_of(gateway, **fields):
    """Return the paths of the URLs in OpenAI's answer to a caller with a key."""
    body = {"prompt": "a cat", "response_format": "url", **fields}
    answer = answer_of(gateway.post("/v1/images/generations", body, x_api_key=KEY))
    return [row["url"].removeprefix(ORIGIN).removeprefix("/api") for row in answer["data"]]


def test_the_url_of_a_picture_without_a_seed_needs_no_key(monkeypatch):
    gateway = with_keys(monkeypatch, models("hugging-face"), HuggingFace(None))

    (path,) = paths_of(gateway)

    assert gateway.get(path).status_code == 200
    assert gateway.get(path.replace("a%20cat", "a%20dog")).status_code == 401


def test_each_url_of_a_picture_without_a_seed_pays_for_three_runs(monkeypatch):
    gateway = with_keys(monkeypatch, models("hugging-face"), HuggingFace(None))

    paths = paths_of(gateway, n=2)

    assert len(set(paths)) == 2
    for path in paths:
        assert [gateway.get(path).status_code for _ in range(4)] == [200, 200, 200, 429]


class Down(Runs):
    """The real-time endpoint is busy, and the other one queues."""

    def invoke_endpoint(self, **_):
        raise refusal("ThrottlingException")


@pytest.fixture
def both(monkeypatch):
    """Return a client of a model with a real-time endpoint and a queue, and what it queued."""
    runs = Down(Breaks())
    queue = {"endpoint": "slow", "jobs": "s3://bucket/jobs/"}
    return with_keys(monkeypatch, models("hugging-face", asynchronous=queue), runs), runs


def test_the_url_of_a_picture_without_a_seed_leads_to_the_queue_as_well(both):
    client, runs = both
    path, other = paths_of(client)[0], paths_of(client, prompt="a dog")[0]
    token, of_another = (one.partition("link=")[2] for one in (path, other))

    receipt = client.get(path, **NO_WAIT)
    hop = client.get(path)
    page = client.get(path, **BROWSER)
    identifiers = [answer_of(receipt)["id"], hop.headers["Location"].split("/")[-2]]

    assert (receipt.status_code, hop.status_code, page.status_code) == (202, 303, 202)
    assert hop.headers["Location"].endswith(f"link={token}")
    assert hop.headers["Location"].count("link=") == 1
    for run in runs.queued:
        client.bucket.objects[run["output"].removeprefix("s3://bucket/")] = painted((64, 64), "png")
    for identifier in identifiers:
        for place in (f"/jobs/{identifier}", f"/jobs/{identifier}/image"):
            assert client.get(f"{place}?link={token}").status_code == 200
            assert client.get(f"{place}?link={of_another}").status_code == 401
            assert client.request("DELETE", f"{place}?link={token}").status_code in {401, 405}


# --- vLLM-Omni ------------------------------------------------------------------------------------


def test_the_models_own_steps_reach_vllm_omni(behind):
    client = behind("vllm-omni", defaults={**DEFAULTS, "steps": 20})

    client.get("/inference/a%20cat")
    client.get("/inference/a%20cat?steps=9")
    post(client, "/v1/images/generations", quality="hd")
    post(client, "/sdapi/v1/txt2img")

    # Its own default would be 50.
    assert client.endpoint.steps == (20, 9, 30, 20)


@pytest.mark.parametrize(
    ("size", "used"),
    [("1792x1024", "1456x832"), ("1024x1792", "832x1456"), ("3840x2160", "1536x864")],
)
def test_a_size_of_openais_models_is_the_nearest_that_vllm_omni_has(behind, size, used):
    client = behind("vllm-omni")

    answer = post(client, "/v1/images/generations", size=size)

    assert (answer.status_code, client.asked[0]["size"]) == (200, used)


def test_an_adapter_reaches_vllm_omni_as_a_path_of_the_container(behind):
    client = behind({"name": "vllm-omni", "adapters": {"watercolour": PATH}})

    picture = client.get("/inference/a%20cat?lora=watercolour:0.5")
    unknown = client.get("/inference/a%20cat?lora=/etc/passwd")
    other = client.get("/inference/a%20cat?lora=pixel")

    assert picture.status_code == 200
    assert client.asked[0]["lora"] == {"name": "watercolour", "path": PATH, "scale": 0.5}
    assert unknown.status_code == other.status_code == 400
    assert len(client.asked) == 1
    (described,) = answer_of(client.get("/options"))["models"]
    assert described["loras"] == ["watercolour"]


class Noise(RuntimeClient):
    """Paints pictures of low entropy that are stored without compression."""

    def invoke_endpoint(self, **arguments):
        super().invoke_endpoint(**arguments)
        size = [int(side) for side in json.loads(arguments["Body"])["size"].split("x")]
        buffer = io.BytesIO()
        Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, "png", compress_level=0)
        self.picture = buffer.getvalue()
        return as_picture(self.picture, "image/png")


def test_a_picture_without_compression_that_is_too_large_is_compressed_without_loss(behind):
    client = behind("vllm-omni", Noise(None))

    large = client.get("/inference/a%20cat?width=1536&height=1536")
    sent = client.endpoint.picture

    assert len(sent) > LARGEST_PICTURE > len(large.body)
    pixels = [Image.open(io.BytesIO(body)).tobytes() for body in (sent, large.body)]
    assert pixels[0] == pixels[1]


def test_a_picture_without_compression_that_fits_is_passed_as_it_is(behind):
    client = behind("vllm-omni", Noise(None))

    assert client.get("/inference/a%20cat?width=256").body == client.endpoint.picture


def test_pictures_that_fit_together_only_with_compression_are_compressed(behind):
    client = behind("vllm-omni", Noise(None))

    answer = post(client, "/v1/images/generations", size="1024x1024", n=2, seed=1)
    web_ui = post(client, "/sdapi/v1/txt2img", width=1024, height=1024, batch_size=2)

    assert all(len(row["b64_json"]) < 1_000_000 for row in answer_of(answer)["data"])
    assert [len(picture) < 1_000_000 for picture in answer_of(web_ui)["images"]] == [True, True]


class Sized(Noise):
    """The same, for the size in the words of Easel's own container."""

    def invoke_endpoint(self, **arguments):
        body = json.loads(arguments["Body"])
        size = f"{body['width']}x{body['height']}"
        return super().invoke_endpoint(**{**arguments, "Body": json.dumps({"size": size})})


def test_pictures_of_a_server_that_compresses_are_not_compressed_again(behind):
    client = behind("easel", Sized(None))

    answer = post(client, "/v1/images/generations", size="1024x1024", n=2, seed=1)

    assert all("seed=" in row["url"] for row in answer_of(answer)["data"])


# --- Errors ---------------------------------------------------------------------------------------

TOOLKIT = {"code": 400, "type": "InternalServerException"}


@pytest.mark.parametrize(
    ("backend", "status", "body", "expected"),
    [
        ("vllm-omni", 400, {"detail": "Invalid size format: 'x'."}, (400, "width")),
        (
            "vllm-omni",
            422,
            {"detail": [{"loc": ["body", "seed"], "msg": "Input should be valid"}]},
            (400, "seed"),
        ),
        (
            "vllm-omni",
            400,
            {"error": {"message": "guidance_scale is bad"}},
            (400, "guidance_scale"),
        ),
        (
            "vllm-omni",
            500,
            {"detail": "Image generation failed: CUDA out of memory."},
            (400, "width"),
        ),
        ("vllm-omni", 500, {"detail": "Image generation failed: boom"}, (502, None)),
        ("vllm-omni", 404, {"detail": "Not Found"}, (502, None)),
        ("hugging-face", 400, {**TOOLKIT, "message": "boom"}, (502, None)),
        (
            "hugging-face",
            400,
            {**TOOLKIT, "message": "got an unexpected keyword argument 'negative_prompt'"},
            (400, "negative_prompt"),
        ),
        ("hugging-face", 503, {**TOOLKIT, "message": "No worker is available"}, (503, None)),
        ("jumpstart", 400, {**TOOLKIT, "message": "boom"}, (502, None)),
        ("openai-images", 429, {"error": {"message": "busy"}}, (503, None)),
        (
            "openai-images",
            400,
            {"error": {"message": "No.", "code": "moderation_blocked"}},
            (400, None),
        ),
        ("openai-images", 400, "oops", (502, None)),
    ],
)
def test_an_error_of_a_server_has_its_own_meaning(behind, backend, status, body, expected):
    client = behind(backend, RuntimeClient(model_error(status, body)))

    response = client.get("/inference/a%20cat")

    assert (response.status_code, error_of(response).get("field")) == expected


@pytest.mark.parametrize(
    ("backend", "answer"),
    [
        ("jumpstart", as_json({"generated_images": [[[[0, 0, 0]]]]})),
        ("jumpstart", as_picture(painted((8, 8), "png"), "image/png")),
        ("openai-images", as_json({"data": [{"url": "https://example.com/a.png"}]})),
        ("openai-images", as_json({"data": [{"b64_json": encoded(b"no picture")}]})),
        ("hugging-face", as_json("no base64!")),
        ("vllm-omni", as_picture(b"PK\x03\x04", "application/zip")),
    ],
)
def test_an_answer_without_a_picture_is_a_failure_of_the_model(behind, backend, answer):
    response = behind(backend, RuntimeClient(answer)).get("/inference/a%20cat")

    assert (response.status_code, error_of(response)["code"]) == (502, "bad_picture")


@pytest.mark.parametrize("backend", ["hugging-face", "jumpstart"])
def test_a_picture_that_is_too_large_is_not_read(behind, backend):
    answer = {**endpoint_response(b"", announced=9_000_000), "ContentType": "application/json"}
    client = behind(backend, RuntimeClient(answer))

    assert client.get("/inference/a%20cat").status_code == PictureTooLarge.status


# --- Asynchronous models --------------------------------------------------------------------------


@pytest.fixture
def queued(client):
    """Return a client of a gateway with one asynchronous model, its runs and its bucket."""

    def connect(backend):
        client.endpoint, bucket = Runs(Breaks()), Bucket(Breaks())
        queue = {"endpoint": "theirs", "jobs": "s3://bucket/jobs/"}
        entry = {"asynchronous": queue, "defaults": DEFAULTS, "backend": backend}
        offered = Settings.from_environment({"EASEL_MODELS": json.dumps({"m": entry})}).models
        client.offer(offered, bucket)
        return client, bucket

    return connect


NO_WAIT = {"Prefer": "respond-async, wait=0"}


def test_a_queued_request_is_sent_in_the_words_of_its_backend(queued):
    client, bucket = queued("vllm-omni")

    job = answer_of(client.get("/inference/a%20cat?seed=7", **NO_WAIT))
    (run,) = client.endpoint.queued
    bucket.objects[run["output"].removeprefix("s3://bucket/")] = painted((64, 64), "png")

    assert json.loads(run["Body"])["num_inference_steps"] == 4
    assert run["CustomAttributes"].startswith("route=/v1/images/generations ")
    assert run["CustomAttributes"].endswith(";within=1800")
    assert client.get(f"/jobs/{job['id']}/image").headers["Content-Type"] == "image/png"


def test_a_queued_picture_that_cannot_be_repeated_is_never_the_same_job(queued):
    client, _ = queued("hugging-face")

    jobs = [answer_of(client.get("/inference/a%20cat", **NO_WAIT))["id"] for _ in range(2)]

    assert len(set(jobs)) == len(client.endpoint.queued) == 2
    assert "seed" not in answer_of(client.get(f"/jobs/{jobs[0]}"))["request"]


class Painting(Runs):
    """Stores the same file at once for each run."""

    def __init__(self, bucket, body):
        super().__init__(Breaks())
        self.bucket, self.body = bucket, body

    def _queue(self, asked):
        places = super()._queue(asked)
        self.bucket.objects[places["OutputLocation"].removeprefix("s3://bucket/")] = self.body
        return places


def png_of(size):
    """Return a whole PNG file whose pixels cannot be compressed, of about a size in bytes."""
    noise = zlib.compress(random.Random(1).randbytes(size), 0)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)), (b"IDAT", noise)]
    chunks = [
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in [*parts, (b"IEND", b"")]
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(("count", "size"), [(3, 1_900_000), (1, 5_400_000)])
def test_queued_pictures_without_a_seed_that_do_not_fit_are_urls(monkeypatch, count, size):
    queue = {"endpoint": "theirs", "jobs": "s3://bucket/jobs/"}
    entry = {"asynchronous": queue, "backend": "hugging-face"}
    offered = Settings.from_environment({"EASEL_MODELS": json.dumps({"m": entry})}).models
    bucket = Bucket(Breaks())
    client = with_keys(monkeypatch, offered, Painting(bucket, png_of(size)), bucket)

    answer = client.post("/v1/images/generations", {"prompt": "a cat", "n": count}, x_api_key=KEY)
    urls = [row["url"] for row in answer_of(answer)["data"]]

    assert len(set(urls)) == count
    if size > LARGEST_PICTURE:
        assert urls[0].startswith("https://bucket.example/jobs/outputs/")
    else:
        paths = [url.removeprefix(ORIGIN).removeprefix("/api") for url in urls]
        assert {client.get(path).status_code for path in paths} == {200}


def test_a_queued_picture_without_compression_fits_the_response_of_the_web_ui(client):
    sent = painted((1_536, 1_536), "png", compress_level=0)
    bucket = Bucket(Breaks())
    client.endpoint = Painting(bucket, sent)
    queue = {"endpoint": "theirs", "jobs": "s3://bucket/jobs/"}
    entry = {"asynchronous": queue, "defaults": DEFAULTS, "backend": "vllm-omni"}
    offered = Settings.from_environment({"EASEL_MODELS": json.dumps({"m": entry})}).models
    client.offer(offered, bucket)

    answer = post(client, "/sdapi/v1/txt2img", override_settings={"samples_format": "png"})
    (picture,) = map(base64.b64decode, answer_of(answer)["images"])

    assert len(sent) > LARGEST_PICTURE > len(picture)
    assert Image.open(io.BytesIO(picture)).getpixel((0, 0)) == (0, 128, 128)


def test_a_queued_failure_is_read_as_its_backend_means_it(queued):
    client, bucket = queued("vllm-omni")
    job = answer_of(client.get("/inference/a%20cat?seed=7", **NO_WAIT))["id"]
    (run,) = client.endpoint.queued
    answer = json.dumps({"detail": "Invalid size format."}).replace('"', '\\"')
    text = f'Received client error (400) from primary with message "{answer}"'
    bucket.objects[run["failure"].removeprefix("s3://bucket/")] = text.encode()

    failed = answer_of(client.get(f"/jobs/{job}"))

    assert failed["state"] == "failed"
    assert failed["error"] == {
        "code": "invalid_request",
        "message": "width: Invalid size format.",
    }


def test_a_queued_400_of_a_toolkit_is_no_refusal():
    text = 'Received client error (400) from primary with message "{\\"code\\": 400}"'

    assert isinstance(failure_of(text, read("hugging-face")), JobFailed)
    assert isinstance(failure_of(text), InvalidRequest)


# --- Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"backend": "vllm"}, "'vllm' is none of easel, hugging-face"),
        ({"backend": {"name": "easel", "port": 1}}, "'port' is no option of easel"),
        ({"backend": "vllm-omni", "defaults": {"width": 64}}, "'m' needs steps in its defaults"),
        (
            {"backend": "vllm-omni", "defaults": {"steps": 4, "width": 520}},
            "the default of width must be a multiple of 16",
        ),
        ({"backend": "vllm-omni", "largest_area": 262_144}, "vLLM-Omni scales nothing up"),
        ({"backend": "hugging-face", "loras": ["a"]}, "has adapters that Hugging Face's"),
        ({"backend": "jumpstart", "adapters": "s3://bucket/a/"}, "has adapters that JumpStart's"),
        *(
            (
                {"backend": name, "asynchronous": {"endpoint": "e", "jobs": "s3://bucket/j/"}},
                "'m' cannot be asynchronous",
            )
            for name in ("jumpstart", "openai-images")
        ),
    ],
)
def test_a_setting_that_a_backend_cannot_keep_is_refused(entry, reason):
    with pytest.raises(BadSetting, match=re.escape(reason)):
        models(**{"backend": "easel", **entry})


def test_no_backend_is_easels_own():
    entry = json.dumps({"m": {"endpoint": "e"}})

    assert Settings.from_environment({"EASEL_MODELS": entry}).models["m"].backend.name == "easel"


@pytest.mark.parametrize("name", NAMES)
def test_the_documentation_has_the_abilities_of_every_backend(name):
    page = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    (_, missing, formats, answer) = rows[0].strip("| ").replace("| |", "|  |").split(" | ")
    abilities = read(name).abilities

    if missing.startswith("all but the size"):
        assert abilities.fields == {"width", "height"}
    else:
        words = [field.replace("lora", "LoRA") for field in read(name).missing]
        assert missing.strip().partition(", unless")[0] == ", ".join(words)
    assert [word.lower() for word in formats.partition(";")[0].split(", ")] == [*abilities.formats]
    assert (answer == "the image") is abilities.raw


# --- Nothing is dropped ---------------------------------------------------------------------------

VALUES = {
    "negative_prompt": st.just("blurry"),
    "seed": st.integers(0, 2**32 - 1),
    "steps": st.integers(1, 100),
    "guidance_scale": st.integers(0, 30),
    "width": st.sampled_from([64, 512]),
    "height": st.sampled_from([64, 512]),
    "lora": st.just("watercolour:0.5"),
    "format": st.sampled_from(["png", "webp", "jpeg"]),
}
SETTINGS = {
    **{name: Settings(models(name), 24, log_prompts=False) for name in NAMES},
    "adapted": Settings(
        models({"name": "vllm-omni", "adapters": {"watercolour": PATH}}), 24, log_prompts=False
    ),
    "all": Settings(
        models({"name": "openai-images", "accepts": ["seed", "steps", "format"]}), 24, False
    ),
}


class Swallow(RuntimeClient):
    """Keeps what it is sent."""

    def invoke_endpoint(self, **arguments):
        super().invoke_endpoint(**arguments)
        raise model_error(500, "")


@pytest.mark.parametrize("name", SETTINGS)
@given(fields=st.fixed_dictionaries({}, optional=VALUES))
def test_every_field_of_a_request_is_sent_or_refused_by_name(name, fields):
    settings = SETTINGS[name]
    request, refused = GenerationRequest(prompt="a cat", **fields), None
    try:
        resolved = complete(settings, request)
    except InvalidRequest as error:
        refused = error
    if refused is not None:
        assert refused.field in fields
        return
    runtime, backend = Swallow(None), settings.models["m"].backend
    with pytest.raises(GatewayError):
        Endpoint(Provided(runtime), "e", backend).invoke(resolved, Deadline(float("inf")), "trace")

    (asked,) = runtime.asked
    body = json.loads(asked["Body"])
    sent = {**body, **body.get("parameters", {})}
    width, height = map(int, sent.get("size", "0x0").split("x"))
    sent |= {"width": width, "height": height} if "size" in sent else {}
    for field in fields.keys() & set(OPTIONAL):
        value = sent.get(WORDS.get(field, field), sent.get(field))
        if isinstance(value, dict):
            value = f"{value['name']}:{value['scale']}"
        assert value == fields[field]
    if "format" in fields and fields["format"] not in backend.abilities.formats[:1]:
        written = sent.get("output_format", sent.get("format", asked["Accept"]))
        assert written in {fields["format"], MEDIA_TYPES[fields["format"]]}
