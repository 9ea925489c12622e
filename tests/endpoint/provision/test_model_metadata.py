from __future__ import annotations

import json

import pytest

from endpoint.aws.bucket import Bucket
from endpoint.aws.models import Models
from endpoint.core.console import Console
from endpoint.core.problems import ScriptError
from endpoint.core.waiting import Waiting
from endpoint.provision.files.payload import description_key
from endpoint.provision.model_metadata import adapter_names, metadata, read
from tests.endpoint.world import ACCOUNT

BUCKET = "easel-main"
PREFIX = "models/sd/0123/"
SD_DEFAULTS = {"steps": 25, "guidance_scale": 7.5, "width": 512, "height": 512}


class Deployed:
    """A model in an emulated account, with files next to it."""

    def __init__(self, world):
        self._world = world
        self._world.client("s3").create_bucket(Bucket=BUCKET)
        self.bucket = Bucket(world.client("s3"), BUCKET)

    def metadata(self, environment, place=f"s3://{BUCKET}/{PREFIX}"):
        source = {"S3Uri": place, "S3DataType": "S3Prefix", "CompressionType": "None"}
        client = self._world.client("sagemaker")
        client.create_model(
            ModelName="easel-main-sd-0123",
            ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/easel",
            PrimaryContainer={
                "Image": "an-image",
                "Environment": environment,
                "ModelDataSource": {"S3DataSource": source},
            },
        )
        return self.read().metadata

    def description(self):
        return self.read().description

    def read(self):
        return read(self._models(), self.bucket, "sd", "easel-main-sd-0123")

    def _models(self):
        client = self._world.client("sagemaker")
        return Models(client, Waiting(self._world, Console(self._world)))


@pytest.fixture
def deployed(world):
    return Deployed(world)


def test_the_defaults_are_those_of_the_containers_environment(deployed):
    defaults = json.dumps({**SD_DEFAULTS, "refiner_start": 0.8})
    deployed.bucket.put(f"{PREFIX}easel.json", b'{"steps": 99}')

    assert deployed.metadata({"EASEL_DEFAULTS": defaults}) == {"defaults": SD_DEFAULTS}


def test_a_folders_defaults_are_next_to_its_weights(deployed):
    deployed.bucket.put(f"{PREFIX}easel.json", b'{"steps": 4, "guidance_scale": null}')

    assert deployed.metadata({}) == {"defaults": {"steps": 4}}


def test_adapters_next_to_the_weights_are_listed_by_name(deployed):
    for name in ("loras/watercolour.safetensors", "loras/readme.txt", "unet/x.safetensors"):
        deployed.bucket.put(PREFIX + name, b"")

    assert deployed.metadata({}) == {"loras": ["watercolour"]}


def test_where_a_container_looks_for_adapters_the_gateway_lists_them_itself(deployed):
    place = f"s3://{BUCKET}/loras/sd/"
    deployed.bucket.put("loras/sd/pixel.safetensors", b"")
    deployed.bucket.put(f"{PREFIX}loras/own.safetensors", b"")
    known = {"loras": ["own"], "adapters": place}

    assert deployed.metadata({"EASEL_LORAS_FROM": place}) == known
    said = {"defaults": {}, "loras": ["own", "pixel"], "published": ["pixel"]}
    deployed.bucket.put(description_key("sd", "easel-main-sd-0123"), json.dumps(said).encode())
    assert deployed.read().metadata == known
    said["loras"] = ["pixel"]
    deployed.bucket.put(description_key("sd", "easel-main-sd-0123"), json.dumps(said).encode())
    # That it has none is known: the gateway can refuse an unknown name.
    assert deployed.read().metadata == {"loras": [], "adapters": place}


def test_a_place_outside_of_the_bucket_is_not_the_gateways_to_list(deployed):
    assert deployed.metadata({"EASEL_LORAS_FROM": "s3://another/loras/sd/"}) == {}


def test_adapters_that_an_earlier_container_reads_when_it_starts_are_listed(deployed):
    for key in ("loras/sd/pixel.safetensors", "loras/sd/README.txt", "loras/sdxl/x.safetensors"):
        deployed.bucket.put(key, b"")

    assert deployed.metadata({}) == {"loras": ["pixel"]}


def test_the_defaults_of_a_base_are_in_its_folder(deployed):
    deployed.bucket.put(f"{PREFIX}base/easel.json", b'\xef\xbb\xbf{"steps": 4}')

    assert deployed.metadata({}) == {"defaults": {"steps": 4}}


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_defaults_that_cannot_be_read_are_named(deployed, content):
    deployed.bucket.put(f"{PREFIX}easel.json", content)

    with pytest.raises(ScriptError, match=rf"s3://{BUCKET}/{PREFIX}easel\.json"):
        deployed.metadata({})


def test_a_model_in_another_bucket_has_no_metadata(deployed):
    assert deployed.metadata({}, "s3://another-bucket/models/") == {}


def test_a_measured_duration_is_included():
    assert metadata({}, 9.5, []) == {"seconds": 9.5}


def test_adapters_have_the_names_that_the_container_gives_them(tmp_path):
    from easel.lora.file import find_files

    files = [
        "b.safetensors",
        "._b.safetensors",
        "old/c.SafeTensors",
        ".cache/d.safetensors",
        "Water Colour.safetensors",
        "Über bär.v2.safetensors",
        "-x.safetensors",
        "a" * 80 + ".safetensors",
    ]
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert adapter_names(files) == sorted(name for name, _ in find_files([tmp_path]))


ZOO = {"about": "A small zoo.", "vocabulary": {"things": ["a panda"]}}


def test_a_description_is_next_to_the_weights_whatever_sets_the_defaults(deployed):
    content = json.dumps({"steps": 4, "examples": None, **ZOO}).encode()
    deployed.bucket.put(f"{PREFIX}easel.json", content)

    assert deployed.metadata({"EASEL_DEFAULTS": '{"width": 64}'})["defaults"] == {
        "steps": 4,  # left open by the environment
        "width": 64,
    }
    assert deployed.description() == ZOO


def test_the_largest_area_is_stated_by_the_environment_or_next_to_the_weights(deployed):
    deployed.bucket.put(f"{PREFIX}easel.json", b'{"largest_area": 16384}')

    assert deployed.metadata({}) == {"largest_area": 16384}
    whole = '{"largest_area": 2359296}'
    assert deployed.metadata({"EASEL_DEFAULTS": whole}) == {"largest_area": 2359296}


def test_a_model_without_the_file_says_nothing(deployed):
    deployed.metadata({})
    assert deployed.description() == {}


def test_every_object_is_read_once(deployed):
    keys = []
    events = deployed.bucket.client.meta.events
    events.register("provide-client-params.s3.GetObject", lambda params, **_: keys.append(params))
    deployed.bucket.put(f"{PREFIX}easel.json", b'{"about": "A zoo.", "steps": 4}')
    deployed.metadata({"EASEL_SAMPLER": "lcm"})

    read = [params["Key"] for params in keys]
    assert f"{PREFIX}easel.json" in read
    assert len(read) == len(set(read))


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"about": 7}', b'{"vocabulary": {}}', b"\xff", b"[" * 100_000]
)
def test_what_the_gateway_could_not_read_is_refused_by_its_file(deployed, content):
    deployed.metadata({"EASEL_DEFAULTS": "{}"})
    deployed.bucket.put(f"{PREFIX}easel.json", content)
    with pytest.raises(ScriptError, match=r"easel\.json") as refused:
        deployed.description()
    assert f"s3://{BUCKET}/{PREFIX}" in str(refused.value)


@pytest.mark.parametrize(
    ("sampler", "scheduler", "expected"),
    [
        (None, {"_class_name": "LCMScheduler", "original_inference_steps": 40}, 40),
        ("own", {"_class_name": "TCDScheduler"}, 50),
        ("lcm", {"_class_name": "PNDMScheduler"}, 50),
        ("lcm", None, 50),
        ("euler", {"_class_name": "LCMScheduler"}, None),
        (None, {"_class_name": "PNDMScheduler"}, None),
        (None, {"_class_name": "LCMScheduler", "original_inference_steps": 200}, None),
        (None, [], None),
        (None, None, None),
    ],
)
def test_the_limits_are_those_of_the_scheduler(deployed, sampler, scheduler, expected):
    if scheduler is not None:
        place = f"{PREFIX}scheduler/scheduler_config.json"
        deployed.bucket.put(place, json.dumps(scheduler).encode())
    environment = {} if sampler is None else {"EASEL_SAMPLER": sampler}
    limits = {} if expected is None else {"limits": {"steps": {"maximum": expected}}}

    assert deployed.metadata(environment) == limits


def test_other_batches_are_another_revision(deployed):
    key = description_key("sd", "easel-main-sd-0123")

    def revision(batch):
        deployed.bucket.put(
            key, json.dumps({"defaults": {}, "loras": [], "speed": {"batch": batch}}).encode()
        )
        return deployed.read().revision("easel-main-sd-0123")

    assert [revision("off"), revision(None), revision(5)] == ["0123"] * 3
    assert len({revision(sizes) for sizes in ("off", "up to 4", "up to 8", "exactly 8")}) == 4
