"""Endpoints on Inferentia2: what is served, what is refused, and what is said instead."""

from __future__ import annotations

import hashlib
import json

import pytest

from endpoint import create_endpoint, delete_endpoint
from endpoint.catalogue import images, models
from endpoint.commands import batch, doctor
from endpoint.core import compiled_models
from endpoint.core.compiled_models import Compiled, Target
from endpoint.provision import checks
from endpoint.provision.files import compiled, weights_of_jobs
from tests.endpoint.doubles import BUCKET, create, only_config
from tests.endpoint.world import IMAGE, contents
from tests.model_folders import safetensors, write_pipeline

NEURON = IMAGE.replace("huggingface-pytorch-inference:", "huggingface-pytorch-inference-neuronx:")
ON_INF2 = ("--instance-type", "ml.inf2.xlarge", "--image", NEURON)


@pytest.fixture(autouse=True)
def _package(tmp_path, monkeypatch):
    package = tmp_path / "neuron"
    package.mkdir()
    (package / "loading.py").write_text("# loads what is compiled\n")
    monkeypatch.setattr(compiled, "_PACKAGE", package)
    monkeypatch.setattr(checks, "ask_the_hub", lambda _model: {"gated": False})


@pytest.fixture
def deployed(world):
    """The deployment's bucket, with the stack around it."""
    assert create(world) == 0
    world.calls.clear()
    return world.client("s3")


def make(world, *options):
    return world.run(create_endpoint.main, "--model", "sd", "--yes", *options)


def store(client, world, model="sd", size=(512, 512), lora=None, content="", revision=None):
    """Store a compiled model, as its job leaves it; return its record."""
    weights = weights_of_jobs.prefix_of(models.resolve(model, revision))
    name, weight = lora or (None, 1.0)
    target = Target(model, weights, *size, "inf2", "image:tag", name, weight, content)
    root = f"{compiled_models.output(target)}easel-main-compile-x-1/output/model/"
    files = {"model_index.json": b"{}", "unet/model.neuron": target.id.encode()}
    for path, body in files.items():
        client.put_object(Bucket=BUCKET, Key=root + path, Body=body)
    sizes = {path: len(body) for path, body in files.items()}
    made = Compiled(target, root, sizes, "2.21", world.now().timestamp(), 60.0)
    client.put_object(Bucket=BUCKET, Key=compiled_models.record(target), Body=made.to_json())
    return made


def served(world):
    """Return the files of the newest SageMaker model, by their places, and its environment."""
    name = only_config(world)["ProductionVariants"][0]["ModelName"]
    container = world.client("sagemaker").describe_model(ModelName=name)["PrimaryContainer"]
    address = container["ModelDataSource"]["S3DataSource"]["S3Uri"]
    prefix = address.removeprefix(f"s3://{BUCKET}/")
    listed = world.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    client = world.client("s3")
    files = {
        item["Key"].removeprefix(prefix): client.get_object(Bucket=BUCKET, Key=item["Key"])[
            "Body"
        ].read()
        for item in listed
    }
    return files, container


def test_a_compiled_model_is_served_with_its_code_and_its_machine_image(world, deployed, capsys):
    made = store(deployed, world, size=(448, 512))
    assert make(world, *ON_INF2, "--dry-run") == 0
    assert only_config(world)["ProductionVariants"][0].get("InstanceType") != "ml.inf2.xlarge"
    assert make(world, *ON_INF2) == 0

    files, container = served(world)
    assert files["unet/model.neuron"] == made.target.id.encode()
    assert {"code/inference.py", "code/neuron/loading.py", "model_index.json"} <= set(files)
    variables = container["Environment"]
    assert container["Image"] == NEURON
    # A request without a size has the only one that there is.
    defaults = json.loads(variables["EASEL_DEFAULTS"])
    assert (defaults["width"], defaults["height"], defaults["steps"]) == (448, 512, 25)
    # A setting that has no effect on a compiled model is refused when it is loaded.
    assert variables["EASEL_DTYPE"] == "auto"
    assert "EASEL_MODEL_ID" not in variables
    assert "EASEL_LORAS_FROM" not in variables
    variant = only_config(world)["ProductionVariants"][0]
    assert variant["InstanceType"] == "ml.inf2.xlarge"
    assert variant["InferenceAmiVersion"] == images.AMI_OF_NEURON
    assert "Not tried on AWS" in capsys.readouterr().err


def test_the_adapter_and_the_size_choose_what_is_served(world, deployed, capsys):
    store(deployed, world)
    key = "loras/sd/watercolour.safetensors"
    deployed.put_object(Bucket=BUCKET, Key=key, Body=safetensors())
    content = compiled_hash(deployed, key)
    merged = store(deployed, world, lora=("watercolour", 1.0), content=content)
    small = store(deployed, world, size=(256, 256))

    assert make(world, *ON_INF2, "--lora", "watercolour") == 0
    assert served(world)[0]["unet/model.neuron"] == merged.target.id.encode()
    assert make(world, *ON_INF2, "--size", "256x256") == 0
    assert served(world)[0]["unet/model.neuron"] == small.target.id.encode()

    # Trained again under its name: what is compiled is of the one before.
    deployed.put_object(Bucket=BUCKET, Key=key, Body=safetensors(8))
    capsys.readouterr()
    assert make(world, *ON_INF2, "--lora", "watercolour") == 2
    said = capsys.readouterr().err
    assert "it has changed since" in said
    assert "compile --model sd --size 512x512 --lora watercolour`" in said
    # Deleted: what was compiled of it stays usable.
    deployed.delete_object(Bucket=BUCKET, Key=key)
    assert make(world, *ON_INF2, "--lora", "watercolour") == 0


def compiled_hash(client, key):
    return hashlib.sha256(client.get_object(Bucket=BUCKET, Key=key)["Body"].read()).hexdigest()


def test_without_a_compiled_model_nothing_is_made_and_the_command_is_named(world, capsys):
    assert make(world, *ON_INF2) == 1
    said = capsys.readouterr().err
    assert "sd is not compiled at 512 x 512; compiled are: nothing of this model" in said
    assert "`python -m endpoint compile --model sd --size 512x512`" in said
    assert contents(world) == []


def test_a_folders_own_size_is_compiled_whatever_the_folder_is_called(world, tmp_path, capsys):
    folder = write_pipeline(tmp_path / "sdxl")
    (folder / "easel.json").write_text('{"width": 128, "height": null}')
    assert world.run(create_endpoint.main, "--model", str(folder), "--yes", *ON_INF2) == 1
    said = capsys.readouterr().err
    assert "sdxl is not compiled at 128 x 512" in said
    assert f"`python -m endpoint compile --model {folder} --size 128x512`" in said


def test_what_was_compiled_of_other_weights_is_not_served(world, deployed, capsys):
    store(deployed, world, size=(256, 256))
    assert make(world, *ON_INF2, "--size", "512x512") == 1
    assert "compiled are: sd at 256 x 256 for inf2" in capsys.readouterr().err
    assert make(world, *ON_INF2, "--lora", "watercolour:0.5") == 1
    assert "--lora watercolour:0.5`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model", "sdxl", "--instance-type", "ml.inf2.xlarge"],
            "sdxl does not load on ml.inf2.xlarge: it has 16 GiB of main memory",
        ),
        (["--model", "flux2-klein", "--instance-type", "ml.inf2.xlarge"], "cannot be compiled"),
        (
            ["--instance-type", "ml.inf2.xlarge", "--instance-type", "ml.g5.xlarge"],
            "need different images",
        ),
        (["--instance-type", "ml.inf2.xlarge", "--weights", "fetch"], "nothing to fetch"),
        (
            ["--instance-type", "ml.inf2.xlarge", "--quantise", "int8"],
            "--quantise int8 has no effect",
        ),
        (
            ["--instance-type", "ml.inf2.xlarge", "--backend", "hugging-face"],
            "Inferentia2 is served by Easel's own container alone",
        ),
        (["--lora", "watercolour"], "--lora is for compiled models"),
        (["--size", "512x512"], "--size is for compiled models"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(world, capsys, options, message):
    assert world.run(create_endpoint.main, "--image", NEURON, "--yes", *options) == 2
    assert message in capsys.readouterr().err
    assert contents(world) == []


def test_an_image_for_the_other_kind_is_refused(world, deployed, capsys):
    store(deployed, world)
    pytest.importorskip("sagemaker.core", reason="endpoint/requirements-deploy.txt")
    types = ("--instance-type", "ml.inf2.xlarge")
    assert world.run(create_endpoint.main, "--yes", "--image", "aws", *types) == 2
    assert "does not run on ml.inf2.xlarge" in capsys.readouterr().err
    assert world.run(create_endpoint.main, "--yes", "--image", images.INFERENTIA) == 2
    assert "does not run on ml.g4dn.xlarge" in capsys.readouterr().err


def test_doctor_says_whether_the_model_is_compiled(world, deployed, capsys):
    assert world.run(doctor.main, "--json", *ON_INF2) == 1
    checked = {one["subject"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
    assert checked["compiled"]["state"] == "bad"
    assert "python -m endpoint compile" in checked["compiled"]["advice"]

    store(deployed, world)
    assert world.run(doctor.main, "--json", *ON_INF2) == 0
    checked = {one["subject"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
    assert checked["compiled"]["finding"].startswith("sd at 512 x 512 for inf2")


def test_deleting_the_endpoint_keeps_what_took_hours(world, deployed, capsys):
    made = store(deployed, world)
    assert make(world, *ON_INF2) == 0
    assert world.run(delete_endpoint.main, "--model", "sd", "--yes") == 0
    listed = deployed.list_objects_v2(Bucket=BUCKET, Prefix="models/sd/")
    assert listed["KeyCount"] == 0
    assert deployed.list_objects_v2(Bucket=BUCKET, Prefix=made.root)["KeyCount"] == 2
    capsys.readouterr()
    assert world.run(delete_endpoint.main, "--yes") == 0
    assert "these compiled models" in capsys.readouterr().err


def test_a_spot_batch_cannot_use_a_compiled_model(world, deployed, tmp_path, capsys):
    store(deployed, world)
    assert make(world, *ON_INF2) == 0
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat")
    arguments = (str(prompts), "--out", str(tmp_path / "out"), "--spot", "--yes")
    assert world.run(batch.main, *arguments) == 1
    assert "Leave out --spot" in capsys.readouterr().err
