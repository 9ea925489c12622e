"""Models that another backend than Easel's own container serves."""

from __future__ import annotations

import json

import pytest

from endpoint import create_endpoint, use_endpoint
from endpoint.catalogue import images, models
from endpoint.commands import batch, doctor, start, stop
from endpoint.core.backends import setting
from endpoint.core.problems import BadArgument
from endpoint.provision import backends, checks, model_metadata
from endpoint.provision.backends import Served
from tests.endpoint.doubles import BUCKET, PNG, create, only_config
from tests.endpoint.world import IMAGE, contents

KLEIN = ("--backend", "vllm-omni")
# The pipeline's arguments for the defaults of `sd`, which the handler does not know.
DEFAULTS = {"num_inference_steps": 25, "guidance_scale": 7.5, "width": 512, "height": 512}


def container(world):
    """Return the container of the account's only model."""
    (name,) = [item["ModelName"] for item in world.client("sagemaker").list_models()["Models"]]
    described = world.client("sagemaker").describe_model(ModelName=name)
    return described["PrimaryContainer"]


def invocations(world):
    """Return what was sent to endpoints: the body, and everything else."""
    sent = [params for model, params in world.requests if model.name == "InvokeEndpoint"]
    return [(json.loads(params["Body"]), params) for params in sent]


def test_vllm_omni_fetches_the_catalogues_commit_and_gets_no_code(world):
    assert create(world, *KLEIN, model="flux2-klein") == 0
    listed = models.read()["flux2-klein"]
    made = container(world)
    assert "ModelDataSource" not in made
    assert made["Environment"] == {
        "SM_VLLM_MODEL": listed.repository,
        "SM_VLLM_REVISION": listed.source.revision,
        "SM_VLLM_DTYPE": "bfloat16",
        "EASEL_BACKEND": "vllm-omni",
        "EASEL_DEFAULTS": json.dumps(listed.defaults, sort_keys=True),
    }
    assert world.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", []) == []


def test_its_first_picture_is_asked_for_in_its_words_with_the_models_own_steps(world):
    assert create(world, *KLEIN, model="flux2-klein") == 0
    ((body, sent),) = invocations(world)
    # Its own default is 50, and another model than the one it serves would be refused.
    assert body["num_inference_steps"] == 4
    assert "model" not in body
    assert body["response_format"] == "file"
    assert "route=/v1/images/generations" in sent["CustomAttributes"]


def test_a_first_picture_that_takes_longer_than_a_minute_is_asked_for_again(world, capsys):
    late = {"OriginalStatusCode": 0, "OriginalMessage": "timed out"}
    world.fail("InvokeEndpoint", "ModelError", status=424, extra=late, times=3)
    assert create(world, *KLEIN, model="flux2-klein") == 0
    assert len(invocations(world)) == 4
    assert "the model is being loaded" in capsys.readouterr().err


def test_without_an_image_it_gets_awss_and_the_machine_image_with_cuda_13(world):
    pytest.importorskip("sagemaker.core", reason="endpoint/requirements-deploy.txt")
    world.images |= {image.tag for image in images.read().values()}
    arguments = ("--model", "z-image-turbo", *KLEIN, "--weights", "fetch", "--yes")
    assert world.run(create_endpoint.main, *arguments) == 0
    assert container(world)["Image"].endswith("/vllm:omni-sagemaker-cuda-v1.5")
    (variant,) = only_config(world)["ProductionVariants"]
    assert variant["InferenceAmiVersion"] == images.AMI_OF_CUDA_13


def test_the_default_handler_gets_its_task_and_no_program(world):
    assert create(world, "--backend", "hugging-face") == 0
    environment = container(world)["Environment"]
    assert environment["HF_TASK"] == "text-to-image"
    assert environment["HF_MODEL_ID"] == models.read()["sd"].repository
    assert environment["HF_MODEL_REVISION"] == models.read()["sd"].source.revision
    assert "SAGEMAKER_PROGRAM" not in environment
    ((body, sent),) = invocations(world)
    assert body == {"inputs": "a warm-up", "parameters": DEFAULTS}
    assert sent["Accept"] == "image/png"


def test_it_is_stopped_started_and_used_in_its_own_words(world, tmp_path):
    assert create(world, "--backend", "hugging-face") == 0
    assert world.run(stop.main, "--yes") == 0
    world.forget_calls()
    assert world.run(start.main, "--yes") == 0
    picture = tmp_path / "picture.png"
    asked = ("a red fox", "--steps", "7", "--output", str(picture))
    assert world.run(use_endpoint.main, *asked) == 0
    bodies = [body for body, _ in invocations(world)]
    assert bodies == [
        {"inputs": "a warm-up", "parameters": DEFAULTS},
        {"inputs": "a red fox", "parameters": {**DEFAULTS, "num_inference_steps": 7}},
    ]
    assert picture.read_bytes() == PNG


def test_a_seed_that_the_default_handler_cannot_take_is_refused_before_it_costs(world, capsys):
    assert create(world, "--backend", "hugging-face") == 0
    world.forget_calls()
    assert world.run(use_endpoint.main, "a fox", "--seed", "3") == 2
    assert "seed" in capsys.readouterr().err
    assert invocations(world) == []


def test_an_asynchronous_model_is_served_asynchronously_by_vllm_omni(world):
    assert create(world, *KLEIN, model="sdxl") == 0
    (sent,) = [params for model, params in world.requests if model.name == "InvokeEndpointAsync"]
    body = json.loads(sent["Body"])
    assert body["num_inference_steps"] == models.read()["sdxl"].defaults["steps"]
    assert "route=/v1/images/generations" in sent["CustomAttributes"]


def test_what_is_left_out_is_said_before_the_question(world, capsys):
    assert world.run(create_endpoint.main, "--model", "sdxl", *KLEIN, "--image", IMAGE) == 1
    said = capsys.readouterr().err
    assert "stable-diffusion-xl-refiner-1.0 is left out: vLLM-Omni runs one model." in said
    assert "Requests cannot set lora." in said
    assert contents(world) == []


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("--backend", "jumpstart"), "deploy --endpoint NAME --backend jumpstart"),
        (("--backend", "vllm-omni"), "vLLM-Omni is not known to serve sd"),
        (("--model", "org/unknown", "--backend", "vllm-omni"), "no default for steps"),
        (("--image", "vllm-omni-1.5"), "--backend vllm-omni"),
        (("--model", "flux2-klein", *KLEIN, "--image", "ray-1.4"), "serves with easel"),
        (("--model", "flux2-klein", *KLEIN, "--lora", "ink"), "--lora"),
        (
            ("--model", "sd", "--backend", "hugging-face", "--instance-type", "ml.inf2.xlarge"),
            "Inferentia2 is served by Easel's own container alone",
        ),
    ],
)
def test_what_a_backend_cannot_serve_is_refused_before_anything_changes(world, capsys, argv, named):
    assert world.run(create_endpoint.main, "--yes", *argv) == 2
    assert named in capsys.readouterr().err
    assert contents(world) == []


def test_a_folders_own_defaults_are_sent_by_the_scripts(tmp_path, monkeypatch):
    (tmp_path / "model_index.json").write_text('{"_class_name": "ZImagePipeline"}')
    (tmp_path / "easel.json").write_text('{"steps": 6, "about": "x"}')
    options = create_endpoint.parser().parse_args(["--model", str(tmp_path), *KLEIN])
    model = backends.resolve(options)
    assert (model.backend, model.defaults) == ("vllm-omni", {"steps": 6})
    served = Served(setting.read("vllm-omni"), model.defaults)
    assert served.sample("x")["steps"] == 6


def test_doctor_says_what_serves_a_model_and_what_else_can(world, capsys, monkeypatch):
    monkeypatch.setattr(checks, "ask_the_hub", lambda _: {"gated": False})
    assert world.run(doctor.main, "--model", "flux2-klein", *KLEIN, "--image", IMAGE) == 0
    assert "backend: It is served by vLLM-Omni" in capsys.readouterr().out
    assert world.run(doctor.main, "--model", "flux2-klein", "--image", IMAGE) == 0
    assert "can also be served with --backend vllm-omni" in capsys.readouterr().out


def test_a_batch_through_vllm_omni_is_in_its_words(world, tmp_path):
    assert create(world, *KLEIN, model="flux2-klein") == 0
    world.forget_calls()
    file = tmp_path / "prompts.txt"
    file.write_text("a red fox\na blue hare\n")
    assert world.run(batch.main, str(file), "--out", str(tmp_path / "out"), "--yes") == 0
    bodies = [body for body, _ in invocations(world)]
    assert sorted(body["prompt"] for body in bodies) == ["a blue hare", "a red fox"]
    assert {body["num_inference_steps"] for body in bodies} == {4}
    assert all(isinstance(body["seed"], int) for body in bodies)


def test_lines_that_it_cannot_carry_out_are_refused_by_number(world, tmp_path, capsys):
    assert create(world, *KLEIN, model="flux2-klein") == 0
    world.forget_calls()
    file = tmp_path / "prompts.csv"
    file.write_text("prompt,guidance_scale,lora\na fox,3,\na hare,25,\nan owl,,ink\n")
    assert world.run(batch.main, str(file), "--out", str(tmp_path / "out"), "--yes") == 2
    said = capsys.readouterr().err
    assert "line 3: guidance_scale" in said
    assert "line 4: lora" in said
    assert invocations(world) == []


def test_a_batch_through_the_default_handler_has_no_seeds_and_refuses_a_named_one(
    world, tmp_path, capsys
):
    assert create(world, "--backend", "hugging-face") == 0
    world.forget_calls()
    file = tmp_path / "prompts.csv"
    asked = (str(file), "--out", str(tmp_path / "out"), "--yes")
    file.write_text("prompt,seed\na red fox,3\n")
    assert world.run(batch.main, *asked) == 2
    assert "line 2: seed: the model sd cannot repeat a picture" in capsys.readouterr().err
    file.write_text("prompt\na red fox\n")
    assert world.run(batch.main, *asked) == 0
    assert [body for body, _ in invocations(world)] == [
        {"inputs": "a red fox", "parameters": DEFAULTS}
    ]


def test_a_spot_job_without_easels_code_is_refused(world, tmp_path, capsys):
    assert create(world, "--backend", "hugging-face") == 0
    file = tmp_path / "prompts.txt"
    file.write_text("a red fox\n")
    asked = (str(file), "--out", str(tmp_path / "out"), "--yes", "--spot")
    assert world.run(batch.main, *asked) == 1
    assert "Leave out --spot" in capsys.readouterr().err


def described(world, context, name):
    (model,) = [item["ModelName"] for item in world.client("sagemaker").list_models()["Models"]]
    return model_metadata.read(context.models, context.bucket, name, model)


def test_the_gateway_is_told_the_backend_the_defaults_and_no_adapters(world, context):
    assert create(world, *KLEIN, model="flux2-klein") == 0
    world.client("s3").put_object(Bucket=BUCKET, Key="loras/flux2-klein/ink.safetensors", Body=b"x")
    known = described(world, context, "flux2-klein")
    assert known.backend == "vllm-omni"
    assert known.metadata == {"defaults": models.read()["flux2-klein"].defaults}


def test_adapters_in_the_models_folder_get_their_places_in_vllm_omnis_container(world, context):
    world.client("s3").create_bucket(Bucket=BUCKET)
    variables = {"EASEL_BACKEND": "vllm-omni", "EASEL_DEFAULTS": '{"steps": 6}'}
    for path in ("ink.safetensors", "a/b c.safetensors", "readme.txt"):
        world.client("s3").put_object(Bucket=BUCKET, Key=f"models/m/1/loras/{path}", Body=b"x")
    known = model_metadata._of_another("vllm-omni", variables, context.bucket, "models/m/1/")
    assert known.backend == {
        "name": "vllm-omni",
        "adapters": {"ink": "/opt/ml/model/loras/ink.safetensors"},
    }
    served = Served(setting.read(known.backend), known.metadata["defaults"], "mine")
    assert served.prepared({"prompt": "x", "lora": "ink:0.5"})["lora"] == "ink:0.5"
    with pytest.raises(
        BadArgument, match="pixel is not an adapter of the model mine; there are ink"
    ):
        served.prepared({"prompt": "x", "lora": "pixel"})


@pytest.mark.parametrize("name", models.read())
def test_every_backend_of_the_catalogue_gets_the_defaults_that_it_needs(name):
    model = models.read()[name]
    for backend in model.backends:
        assert backend in backends.CREATED
        assert setting.read(backend).abilities.required <= model.defaults.keys()
        Served(setting.read(backend), model.defaults).sample("a fox")
