"""`deploy --endpoint`: the URL in front of an endpoint that somebody else made, which stays so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from endpoint import create_endpoint, delete_endpoint, use_endpoint
from endpoint.catalogue import models
from endpoint.commands import (
    batch,
    deploy,
    destroy,
    doctor,
    plan,
    start,
    status,
    stop,
    usage,
)
from endpoint.provision import checks
from endpoint.provision.gateway import gateway, gateway_project
from tests.endpoint.doubles import BUCKET, PNG, create_gateway, gateway_variables
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, role_policy

THEIRS = "their-sdxl-of-2024"
ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/{THEIRS}"
JPEG = b"\xff\xd8\xff" + b"a picture" * 10 + b"\xff\xd9"
IN_FRONT = ("--endpoint", THEIRS, "--backend", "jumpstart", "--open", "--yes")
OWN = ("--model", "sd", "--image", IMAGE, "--weights", "fetch", "--open", "--yes")


@pytest.fixture
def world(world, monkeypatch, tmp_path):
    """An account with somebody's endpoint; chalice's work is done by one call of Lambda's."""
    monkeypatch.setattr(checks, "ask_the_hub", lambda _: {"gated": False})
    monkeypatch.setattr(gateway_project, "PROJECTS", tmp_path / ".easel")

    def run_chalice(context, project):
        settings = json.loads((project.folder / ".chalice" / "config.json").read_text())
        variables = settings["stages"][context.name]["environment_variables"]
        environment = {"Environment": {"Variables": variables}}
        name = context.deployment.function
        if context.gateway.function(name) is None:
            create_gateway(world, **environment)
        else:
            world.client("lambda").update_function_configuration(FunctionName=name, **environment)

    monkeypatch.setattr(gateway, "_run_chalice", run_chalice)
    make(world, THEIRS)
    world.sleep(600)
    return world


def make(world, name, **config):
    """Make an endpoint as somebody does who has not heard of Easel."""
    sagemaker = world.client("sagemaker")
    image = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/pytorch-inference:theirs"
    role = f"arn:aws:iam::{ACCOUNT}:role/theirs"
    sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": image}, ExecutionRoleArn=role)
    variant = {
        "VariantName": "all",
        "ModelName": name,
        "InstanceType": "ml.g5.xlarge",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[variant], **config
    )
    sagemaker.create_endpoint(
        EndpointName=name, EndpointConfigName=name, Tags=[{"Key": "team", "Value": "theirs"}]
    )


def fetched(picture=JPEG):
    """Return a double of the public URL, and the addresses that are asked for."""
    asked: list[str] = []

    def fetch(url, key=None):
        asked.append(url)
        return picture

    return fetch, asked


def deployed(world, *argv, picture=JPEG):
    return world.run(deploy.main, *argv, fetch=fetched(picture)[0])


def offered(world):
    return json.loads(gateway_variables(world)["EASEL_MODELS"])


def rights(world):
    """Return what the gateway's role may invoke."""
    role = f"easel-main-gateway-{REGION}"
    policy = role_policy(world.client("iam"), role, "gateway")
    found = [each["Resource"] for each in policy["Statement"]
             if "sagemaker:InvokeEndpoint" in each["Action"]]  # fmt: skip
    return [one for each in found for one in (each if isinstance(each, list) else [each])]


def test_the_url_is_put_in_front_of_it_and_nothing_else_is_made(world, capsys):
    assert deployed(world, *IN_FRONT) == 0
    sagemaker = world.client("sagemaker")
    assert [item["EndpointName"] for item in sagemaker.list_endpoints()["Endpoints"]] == [THEIRS]
    entry = offered(world)[THEIRS]
    assert (entry["endpoint"], entry["backend"]) == (THEIRS, "jumpstart")
    assert entry["usd_per_hour"] == 1.408
    said = capsys.readouterr().err
    assert "1 x ml.g5.xlarge, 1.408 USD per hour" in said
    assert "Nothing of Easel changes or ends it" in said


def test_the_gateways_role_may_invoke_exactly_it(world):
    assert deployed(world, *IN_FRONT) == 0
    own = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/easel-main-*"
    assert rights(world) == [own, ARN]


def test_without_endpoints_of_others_the_role_is_as_before(world):
    assert deployed(world, *OWN, picture=PNG) == 0
    assert rights(world) == [f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/easel-main-*"]


def test_a_model_of_the_catalogue_gives_it_a_name_and_defaults(world):
    assert deployed(world, *IN_FRONT, "--model", "sdxl-turbo") == 0
    entry = offered(world)["sdxl-turbo"]
    assert entry["endpoint"] == THEIRS
    assert entry["defaults"] == models.read()["sdxl-turbo"].defaults


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (("jumpstart", "--accept-eula"), {"name": "jumpstart", "accept_eula": True}),
        (
            ("openai-images", "--accepts", "seed, steps"),
            {"name": "openai-images", "accepts": ["seed", "steps"]},
        ),
        (("easel",), None),
    ],
)
def test_what_answers_in_it_is_kept_by_later_deployments(world, options, kept):
    backend = ("--endpoint", THEIRS, "--backend", *options, "--open", "--yes")
    picture = JPEG if "jumpstart" in options else PNG
    assert deployed(world, *backend, picture=picture) == 0
    before = offered(world)[THEIRS]
    assert before.get("backend") == kept
    assert deployed(world, *OWN, picture=PNG) == 0
    assert list(offered(world)) == ["sd", THEIRS]
    assert offered(world)[THEIRS] == before
    assert ARN in rights(world)


def test_the_smoke_test_asks_for_what_the_backend_can_do(world):
    fetch, asked = fetched(PNG)
    argv = ("--endpoint", THEIRS, "--backend", "hugging-face", "--open", "--yes")
    assert world.run(deploy.main, *argv, fetch=fetch) == 0
    assert [url.rpartition("/api/")[2] for url in asked] == ["health", "inference/a%20smoke%20test"]


def test_pictures_that_cannot_be_repeated_are_not_stored_and_later_ones_still_are(world):
    argv = ("--endpoint", THEIRS, "--backend", "hugging-face", "--open", "--yes")
    assert deployed(world, *argv, picture=PNG) == 0
    assert "pictures" not in offered(world)[THEIRS]
    assert deployed(world, *OWN, picture=PNG) == 0
    assert offered(world)["sd"]["pictures"] == f"s3://{BUCKET}/pictures/sd/"


def test_its_revision_changes_with_its_owners_deployment(world):
    assert deployed(world, *IN_FRONT) == 0
    before = offered(world)[THEIRS]["revision"]
    sagemaker = world.client("sagemaker")
    sagemaker.delete_endpoint(EndpointName=THEIRS)
    world.sleep(600)
    sagemaker.list_endpoints()
    for kind in ("model", "endpoint_config"):
        name = {"model": "ModelName", "endpoint_config": "EndpointConfigName"}[kind]
        getattr(sagemaker, f"delete_{kind}")(**{name: THEIRS})
    make(world, "another")
    sagemaker.create_endpoint(EndpointName=THEIRS, EndpointConfigName="another")
    world.sleep(600)
    assert deployed(world, *IN_FRONT) == 0
    assert offered(world)[THEIRS]["revision"] != before


def test_it_is_taken_away_with_its_right_and_without_a_model_of_ones_own(world, capsys):
    assert deployed(world, *IN_FRONT) == 0
    assert world.run(deploy.main, "--without-endpoint", THEIRS, "--open", "--yes") == 2
    assert "left without a model" in capsys.readouterr().err
    assert deployed(world, *OWN, picture=PNG) == 0
    argv = ("--without-endpoint", THEIRS, "--open", "--yes")
    assert deployed(world, *argv, picture=PNG) == 0
    assert list(offered(world)) == ["sd"]
    assert ARN not in rights(world)


def test_a_model_moves_to_another_endpoint(world, capsys):
    make(world, "their-new-one")
    world.sleep(600)
    klein = ("--model", "flux2-klein")
    assert deployed(world, *IN_FRONT, *klein) == 0
    moved = ("--endpoint", "their-new-one", "--backend", "jumpstart", *klein)
    assert deployed(world, *moved, "--open", "--yes") == 0
    assert f"flux2-klein moves from {THEIRS} to their-new-one" in capsys.readouterr().err
    assert {name: entry["endpoint"] for name, entry in offered(world).items()} == {
        "flux2-klein": "their-new-one"
    }
    assert ARN in rights(world)
    assert deployed(world, "--without-endpoint", THEIRS, "--open", "--yes") == 0
    assert rights(world)[1:] == [ARN.replace(THEIRS, "their-new-one")]


# Names in requests have 27 characters at most.
LONG = ("their-stable-diffusion-model-of-2023", "their-stable-diffusion-model-of-2024")


def test_two_endpoints_whose_names_are_cut_to_the_same_are_refused(world, capsys):
    for name in LONG:
        make(world, name)
    world.sleep(600)
    options = ("--backend", "jumpstart", "--open", "--yes")
    assert deployed(world, "--endpoint", LONG[0], *options) == 0
    before = gateway_variables(world)
    assert deployed(world, "--endpoint", LONG[1], *options) == 2
    said = capsys.readouterr().err
    assert f"{LONG[1]} and {LONG[0]} have the same name in requests, {LONG[0][:27]}" in said
    assert f"--without-endpoint {LONG[0]}" in said
    assert gateway_variables(world) == before
    argv = ("--endpoint", LONG[1], *options, "--without-endpoint", LONG[0])
    assert deployed(world, *argv) == 0
    assert [entry["endpoint"] for entry in offered(world).values()] == [LONG[1]]


def test_a_model_that_an_endpoint_of_others_serves_gets_no_own_one(world, capsys):
    assert deployed(world, *IN_FRONT, "--model", "sd") == 0
    assert deployed(world, *OWN, picture=PNG) == 2
    said = capsys.readouterr().err
    assert f"There is a model sd already: {THEIRS}, which is somebody else's, serves it" in said
    assert f"--without-endpoint {THEIRS}" in said
    endpoints = world.client("sagemaker").list_endpoints()["Endpoints"]
    assert [item["EndpointName"] for item in endpoints] == [THEIRS]
    assert deployed(world, *OWN, "--without-endpoint", THEIRS, picture=PNG) == 0
    assert offered(world)["sd"]["endpoint"] == "easel-main-sd"


def test_an_own_model_takes_the_name_of_an_endpoint_that_is_gone(world):
    assert deployed(world, *IN_FRONT, "--model", "sd") == 0
    world.client("sagemaker").delete_endpoint(EndpointName=THEIRS)
    world.sleep(600)
    assert deployed(world, *OWN, picture=PNG) == 0
    assert offered(world)["sd"]["endpoint"] == "easel-main-sd"


def test_an_own_model_that_sleeps_keeps_its_name(world, capsys):
    assert deployed(world, *OWN, "--lease", "1h", picture=PNG) == 0
    world.schedules_run = True
    world.sleep(4_000)
    assert deployed(world, *IN_FRONT, "--model", "sd") == 2
    assert "There is a model sd already: easel-main-sd serves it" in capsys.readouterr().err


def test_one_that_is_gone_is_named_and_prevents_nothing(world, capsys):
    assert deployed(world, *IN_FRONT) == 0
    world.client("sagemaker").delete_endpoint(EndpointName=THEIRS)
    world.sleep(600)
    assert deployed(world, *OWN, picture=PNG) == 0
    assert f"--without-endpoint {THEIRS} takes the URL away" in capsys.readouterr().err
    assert world.run(status.main) == 0
    assert "does not exist any more" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("--endpoint", "none-such", "--backend", "easel"), "There is no endpoint none-such"),
        (("--endpoint", THEIRS), "--endpoint needs --backend"),
        (("--endpoint", "easel-main-sd", "--backend", "easel"), "this deployment's own"),
        (("--endpoint", THEIRS, "--backend", "vllm-omni"), "has to be sent steps"),
        (("--endpoint", THEIRS, "--backend", "easel", "--model", "x/y"), "a name in the catalogue"),
        (
            ("--endpoint", THEIRS, "--backend", "easel", "--model", "sd", "--also", "sd"),
            "There is a model sd already",
        ),
        (("--endpoint", THEIRS, "--backend", "easel", "--accepts", "seed"), "--backend"),
        (
            ("--endpoint", THEIRS, "--backend", "openai-images", "--accepts", "width"),
            "--backend: accepts: 'width'",
        ),
        (("--accepts", "seed"), "are for --endpoint"),
        (("--without-endpoint", "none-such"), "The URL is not in front of none-such"),
    ],
)
def test_an_unusable_option_is_refused_by_name_before_anything_changes(world, capsys, argv, named):
    before = len(world.client("cloudformation").describe_stacks()["Stacks"])
    assert world.run(deploy.main, "--yes", "--open", "--image", IMAGE, *argv) == 2
    assert named in capsys.readouterr().err
    assert len(world.client("cloudformation").describe_stacks()["Stacks"]) == before == 0


def test_an_asynchronous_endpoint_of_others_is_refused(world, capsys):
    output = {"S3OutputPath": "s3://theirs/outputs"}
    make(world, "their-queue", AsyncInferenceConfig={"OutputConfig": output})
    world.sleep(600)
    argv = ("--endpoint", "their-queue", "--backend", "easel", "--open", "--yes")
    assert world.run(deploy.main, *argv) == 2
    assert "their-queue is asynchronous" in capsys.readouterr().err


def test_one_that_is_not_in_service_is_waited_for_by_its_owner(world, capsys):
    make(world, "their-new-one")
    argv = ("--endpoint", "their-new-one", "--backend", "easel", "--open", "--yes")
    assert world.run(deploy.main, *argv) == 1
    assert "their-new-one is not in service: it is Creating" in capsys.readouterr().err


def test_status_and_destroy_say_what_it_costs_and_that_it_stays(world, capsys):
    assert deployed(world, *IN_FRONT) == 0
    capsys.readouterr()
    assert world.run(status.main, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    (others,) = shown["endpoints_of_others"]
    assert (others["name"], others["usd_per_hour"]) == (THEIRS, 1.408)
    assert shown["usd_per_hour"] < 0.01
    assert world.run(status.main) == 0
    said = capsys.readouterr().out
    assert "somebody else's, Easel does not end it" in said
    assert "Not counted, because it is not Easel's to end: 1.408 USD per hour" in said
    assert world.run(destroy.main, "--yes") == 0
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert f"so it stays: the endpoint {THEIRS}, 1.408 USD per hour" in text
    assert "nothing of Easel's costs anything" in said.out


def test_a_plan_has_the_right_to_invoke_it(world, capsys):
    assert deployed(world, *OWN, picture=PNG) == 0
    capsys.readouterr()
    argv = ("--dry-run", "--endpoint", THEIRS, "--backend", "jumpstart")
    assert world.run(plan.main, *argv) == 0
    assert "OtherEndpoints" in capsys.readouterr().out


# --- What no command does ------------------------------------------------------------------------

# They have no deployment, or another one; `apply` leaves all to CloudFormation; training and
# building have nothing to do with endpoints.
_WITHOUT_ENDPOINTS = {
    "apply",
    "build_image",
    "compile",
    "create_key",
    "estimate",
    "models",
    "prove",
    "train",
}


def snapshot(world):
    """Return everything that SageMaker and others know of the endpoint that is not Easel's."""
    sagemaker = world.client("sagemaker")
    described = sagemaker.describe_endpoint(EndpointName=THEIRS)
    kinds = ("endpoint", "endpoint-config", "model")
    arns = [ARN.replace(":endpoint/", f":{kind}/") for kind in kinds]
    return [
        [described[name] for name in ("EndpointStatus", "EndpointConfigName", "CreationTime")],
        sagemaker.describe_endpoint_config(EndpointConfigName=THEIRS)["ProductionVariants"],
        sagemaker.describe_model(ModelName=THEIRS)["PrimaryContainer"],
        [sagemaker.list_tags(ResourceArn=arn)["Tags"] for arn in arns],
        world.client("application-autoscaling").describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=[f"endpoint/{THEIRS}/variant/all"]
        )["ScalableTargets"],
        world.client("logs").describe_log_groups(
            logGroupNamePrefix=f"/aws/sagemaker/Endpoints/{THEIRS}"
        )["logGroups"],
    ]  # fmt: skip


# Calls that change something, and may name the endpoint: its address and its right.
_MAY_NAME = {"CreateStack", "UpdateStack", "CreateChangeSet"}
_READS = ("BatchGet", "Describe", "Filter", "Get", "Head", "List", "Simulate", "Invoke")


def changes_that_name_it(world):
    return [
        model.name
        for model, params in world.requests
        if not model.name.startswith(_READS)
        and model.name not in _MAY_NAME
        and THEIRS in json.dumps(params, default=str)
    ]


def commands(tmp_path):
    """Return every command of a deployment, by name: what it is run with."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a fox\n")
    picture = ("--output", str(tmp_path / "x.png"))
    drawn = (str(prompts), "--out", str(tmp_path / "out"), "--model", "sd", "--yes")
    own = ("--model", "sd", "--image", IMAGE, "--weights", "fetch", "--yes")
    return {
        "create": (create_endpoint.main, own),
        "update": (create_endpoint.main, (*own, "--log-prompts")),
        "use": (use_endpoint.main, ("a fox", "--model", "sd", *picture)),
        "status": (status.main, ()),
        "doctor": (doctor.main, own[:4]),
        "usage": (usage.main, ()),
        "plan": (plan.main, ("--dry-run", *OWN[:4])),
        "batch": (batch.main, drawn),
        "stop": (stop.main, ("--yes",)),
        "start": (start.main, ("--yes", "--lease", "30m")),
        "delete the model": (delete_endpoint.main, ("--model", "sd", "--yes")),
        "deploy": (deploy.main, OWN),
        "deploy with a cap": (deploy.main, (*OWN, "--monthly-cap", "0.2")),
        "delete": (delete_endpoint.main, ("--yes",)),
        "deploy in front": (deploy.main, IN_FRONT),
        "take away": (deploy.main, ("--without-endpoint", THEIRS, *OWN)),
        "destroy": (destroy.main, ("--yes",)),
    }


def smoke_test(world):
    """Return a double of the public URL, whose pictures are the default model's."""

    def fetch(_, key=None):
        first = next(iter(offered(world).values()))
        return JPEG if first.get("backend") == "jumpstart" else PNG

    return fetch


@pytest.mark.slow
def test_no_command_changes_tags_stops_or_deletes_it(world, tmp_path):
    before = snapshot(world)
    assert deployed(world, *IN_FRONT) == 0
    world.schedules_run = True
    ran = commands(tmp_path)
    for name, (main, argv) in ran.items():
        more = {"fetch": smoke_test(world)} if main is deploy.main else {}
        # `delete` leaves the gateway, and says so.
        assert world.run(main, *argv, **more) == (name == "delete"), name
        assert changes_that_name_it(world) == [], name
        assert snapshot(world) == before, name
        world.forget_calls()
        if name == "deploy with a cap":
            # The guard's, every five minutes: it ends what is Easel's.
            world.sleep(1_800)
            left = world.client("sagemaker").list_endpoints()["Endpoints"]
            assert [item["EndpointName"] for item in left] == [THEIRS]
            assert snapshot(world) == before, name
    folder = Path(deploy.__file__).parent
    modules = {main.__module__.rpartition(".")[2] for main, _ in ran.values()}
    present = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert present - _WITHOUT_ENDPOINTS == modules & present
