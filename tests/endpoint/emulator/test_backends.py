"""From the adapter of a backend through SageMaker to its imitated container, and back to a picture.

Nothing is doubled but what makes the images. The traps of the other containers are tests here.
"""

from __future__ import annotations

import dataclasses
import io
import json
import struct

import pytest
from botocore.exceptions import ClientError
from PIL import Image

from endpoint.core.backends.setting import read
from endpoint.core.generation import GenerationRequest, InvalidField
from endpoint.emulator.container.imitations.openai_images import OpenAiImages
from tests.endpoint.emulator.container.imitations.doubles import (
    ADAPTERS,
    CONTAINERS,
    GATED,
    HOST,
    SETTINGS,
    VLLM_OMNI,
    Images,
    register,
)
from tests.endpoint.emulator.doubles import BUCKET, REGION, create_endpoint
from tests.endpoint.emulator.sagemaker.doubles import eventually, key

DEFAULTS = {"steps": 4, "guidance_scale": 1.0, "width": 96, "height": 64}


@pytest.fixture
def images(aws):
    aws.imitations.images_from = Images()
    yield aws.imitations.images_from
    aws.imitations.images_from = None


class Model:
    """A model behind an adapter; `pixels` returns its picture for a request."""

    def __init__(self, runtime, endpoint, name, setting=None):
        self.runtime, self.endpoint = runtime, endpoint
        self.backend = read(setting or SETTINGS[name])

    def send(self, **fields):
        """Return the answer to a request, which the adapter has completed."""
        fields = {"format": self.backend.abilities.formats[0], **fields}
        request = GenerationRequest(prompt="a cat", model="m", **fields)
        self.backend.check(request)
        made = self.backend.invocation(self.backend.complete(request, DEFAULTS), "trace-1")
        return self.runtime.invoke_endpoint(
            EndpointName=self.endpoint,
            Body=made.body,
            ContentType="application/json",
            Accept=made.accept,
            **({"CustomAttributes": made.attributes} if made.attributes else {}),
        )

    def file(self, **fields):
        answer = self.send(**fields)
        return self.backend.picture(answer["Body"].read(), answer["ContentType"])

    def image(self, **fields):
        return Image.open(io.BytesIO(self.file(**fields)))

    def refusal(self, **fields):
        """Return the status of a refused request, and what the adapter makes of the answer."""
        with pytest.raises(self.runtime.exceptions.ModelError) as caught:
            self.send(**fields)
        error = caught.value.response
        status = error["OriginalStatusCode"]
        return status, self.backend.report(status, error["OriginalMessage"])


@pytest.fixture
def behind(aws, clients, runtime, images):
    """A function that creates an endpoint with the container of a backend."""

    def create(name, setting=None, **container):
        more = HOST if name == "vllm-omni" else {}
        definition = {**CONTAINERS[name], **container}
        endpoint = create_endpoint(clients, container=definition, **more)
        if name == "openai-images":
            register(aws, endpoint, images)
        return Model(runtime, endpoint, name, setting)

    return create


@pytest.fixture(params=CONTAINERS)
def model(request, behind):
    return behind(request.param)


def test_a_picture_comes_back(model, images):
    default = model.backend.abilities.formats[0]
    image = model.image(width=96, height=64)
    assert (image.format, image.size) == (default.upper(), (96, 64))
    assert images.last.prompt == "a cat"


def test_every_ability_reaches_the_pipeline(model, images):
    values = {"seed": 7, "steps": 5, "guidance_scale": 2.5, "negative_prompt": "a dog"}
    sent = {name: values[name] for name in values if name in model.backend.abilities.fields}
    model.file(width=96, height=64, **sent)
    got = dataclasses.asdict(images.last)
    assert {name: got[name] for name in sent} == sent
    assert (got["width"], got["height"]) == (96, 64)


def test_what_a_backend_does_not_have_is_refused_before_the_request(model, images):
    values = {"seed": 7, "lora": "pixel:1", "negative_prompt": "a dog", "steps": 5}
    for name in model.backend.missing:
        with pytest.raises(InvalidField) as caught:
            model.send(**{name: values[name]})
        assert caught.value.field == name
    assert images.requests == []


def test_every_format_of_a_backend_comes_back(model):
    for name in model.backend.abilities.formats:
        assert model.image(format=name).format == name.upper()


def test_a_lack_of_memory_is_recognised_whatever_the_status(aws, model, behind):
    failing = Images(error=RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    aws.imitations.images_from = failing
    if model.backend.name == "openai-images":
        aws.registry.register(model.endpoint, OpenAiImages(failing))
        model.backend = read("openai-images")
    status, report = model.refusal()
    assert report == {"code": "out_of_memory"}
    assert status == (400 if model.backend.name in {"hugging-face", "jumpstart"} else 500)


# --- The traps -------------------------------------------------------------------------------


def test_the_models_defaults_are_sent_because_the_containers_own_are_50_steps(model, images):
    model.file()
    request = images.last
    assert (request.steps, request.guidance_scale) == (4, 1.0)
    assert (request.width, request.height) == (96, 64)


def test_the_model_is_left_out_because_any_name_but_the_servers_is_refused(behind, switches):
    model = behind("vllm-omni")
    assert model.image().format == "PNG"
    (entry,) = switches.requests(model.endpoint)
    assert "model" not in json.loads(entry["body"])


def test_the_route_shares_the_custom_attributes_with_the_trace(behind, switches):
    model = behind("vllm-omni")
    model.file()
    (entry,) = switches.requests(model.endpoint)
    sent = {name.lower(): text for name, text in entry["headers"].items()}
    attributes = sent["x-amzn-sagemaker-custom-attributes"]
    assert "route=/v1/images/generations" in attributes.split()
    assert "trace-1" in attributes.split()


def test_a_png_of_vllm_omni_is_not_compressed_and_says_so_in_its_abilities(behind):
    model = behind("vllm-omni")
    file = model.file(width=256, height=256, format="png")
    assert not model.backend.abilities.compressed
    assert len(file) > 256 * 256 * 3
    # The header of the zlib stream in the first IDAT chunk: level 0 or 1.
    start = file.index(b"IDAT") + 4
    assert struct.unpack(">H", file[start : start + 2])[0] >> 6 & 0b11 == 0


def test_an_adapter_is_sent_by_the_path_that_is_configured(behind, images):
    model = behind("vllm-omni")
    model.file(lora="pixel:0.5")
    assert images.last.lora == (ADAPTERS["pixel"], 0.5)
    with pytest.raises(InvalidField, match="nearby is not an adapter"):
        model.send(lora="nearby:1")
    with pytest.raises(InvalidField) as caught:
        model.send(lora="pixel:1,pixel2:1")
    assert caught.value.field == "lora"


@pytest.mark.parametrize("ami", [None, "al2-ami-sagemaker-inference-gpu-2-1"])
def test_a_container_of_cuda_13_fails_on_a_host_without_its_driver(clients, ami):
    options = {"InferenceAmiVersion": ami} if ami else {}
    name = create_endpoint(clients, container=VLLM_OMNI, **options)
    described = clients.get("sagemaker", REGION).describe_endpoint(EndpointName=name)
    assert described["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in described["FailureReason"]


def test_a_first_request_of_more_than_a_minute_is_cut_off_and_the_next_one_is_not(behind, switches):
    model = behind("vllm-omni")
    switches.set_clock(speed=200)
    try:
        with switches.fault(model.endpoint, "slow", seconds=90, times=1):
            status, report = model.refusal()
            assert (status, report) == (0, {})
            assert model.image().format == "PNG"
    finally:
        switches.set_clock(speed=1)


@pytest.mark.parametrize("name", ["hugging-face", "jumpstart"])
def test_a_400_of_the_toolkit_is_the_callers_fault_only_if_it_names_a_field(aws, behind, name):
    model = behind(name)
    aws.imitations.images_from = Images(error=RuntimeError("cuDNN error: EXECUTION_FAILED"))
    status, report = model.refusal()
    assert status == 400
    assert report.get("code") != "invalid_request"


def test_a_gated_model_of_jumpstart_needs_the_licence_accepted(behind):
    refused = behind("jumpstart", ModelDataUrl=GATED)
    assert refused.refusal()[0] == 400
    accepted = behind("jumpstart", {"name": "jumpstart", "accept_eula": True}, ModelDataUrl=GATED)
    assert accepted.image().format == "JPEG"


def test_the_pixels_of_jumpstart_in_json_are_many_times_the_size_of_the_picture(behind):
    model = behind("jumpstart")
    file = model.file(width=256, height=256)
    answer = model.runtime.invoke_endpoint(
        EndpointName=model.endpoint,
        Body=json.dumps({"prompt": "a cat", "width": 256, "height": 256}),
        ContentType="application/json",
        Accept="application/json",
    )
    pixels = answer["Body"].read()
    assert len(pixels) > 256 * 256 * 10 > len(file)
    with pytest.raises(ValueError, match="lists of pixels"):
        model.backend.picture(pixels, answer["ContentType"])


# --- The control plane and the queue ------------------------------------------------------------


def test_without_images_there_is_no_container(clients, runtime):
    name = create_endpoint(clients, container=VLLM_OMNI, **HOST)
    with pytest.raises(ClientError) as caught:
        Model(runtime, name, "vllm-omni").send()
    assert caught.value.response["OriginalStatusCode"] == 503


def test_a_registered_model_server_goes_before_an_imitation(behind, switches, container):
    model = behind("vllm-omni")
    switches.set_container(model.endpoint, container.url)
    model.send()
    assert len(container.got) == 1


def test_an_asynchronous_endpoint_stores_the_picture_itself(clients, runtime, s3, images):
    place = {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/pictures/"}}
    name = create_endpoint(clients, place, container=VLLM_OMNI, **HOST)
    backend = read("vllm-omni")
    request = GenerationRequest(prompt="a cat", model="m")
    made = backend.invocation(backend.complete(request, DEFAULTS), "")
    answer = runtime.invoke_endpoint_async(
        EndpointName=name,
        Body=made.body,
        ContentType="application/json",
        Accept=made.accept,
        CustomAttributes=made.attributes,
    )
    stored = eventually(lambda: s3.get_object(Bucket=BUCKET, Key=key(answer["OutputLocation"])))
    assert stored["ContentType"] == "image/png"
    assert Image.open(io.BytesIO(stored["Body"].read())).size == (96, 64)
