"""training.yaml: its pipeline, its roles, and the command that makes it."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml

from endpoint.commands import deploy, destroy
from endpoint.core.naming import Deployment
from endpoint.core.training_jobs.request import create_training_job
from endpoint.provision import checks
from endpoint.provision.gateway import gateway, gateway_project
from endpoint.provision.training import trainer
from endpoint.provision.training.stack import TEMPLATE
from tests.contract.deployment import Loader
from tests.endpoint.doubles import BUCKET, PNG, create_gateway, gateway_variables
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, aws_response, contents
from tests.model_folders import write_pipeline
from tests.policies.tools import find_program

DEPLOYMENT = Deployment("main", ACCOUNT, REGION)
PARSED = yaml.load(TEMPLATE.read_text("utf-8"), Loader)  # noqa: S506 - a safe loader
TRAINING_IMAGE = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/huggingface-pytorch-training:2.9.0"


def definition():
    """Return the pipeline's definition as CloudFormation makes it for `main`."""
    body = PARSED["Resources"]["Pipeline"]["Properties"]["PipelineDefinition"]
    text = body["PipelineDefinitionBody"]["!Sub"]
    values = {"DeploymentName": "main", "AWS::AccountId": ACCOUNT, "AWS::Region": REGION,
              "AWS::Partition": "aws", "TrainingRole.Arn": DEPLOYMENT.training_role,
              "LongestRun": "3600"}  # fmt: skip
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text
    return json.loads(text)


def steps(of, found=None):
    """Return all steps by name, also those in conditions."""
    found = {} if found is None else found
    for step in of:
        found[step["Name"]] = step
        for branch in ("IfSteps", "ElseSteps"):
            steps(step["Arguments"].get(branch, []), found)
    return found


def test_the_step_that_trains_is_the_request_of_the_scripts():
    def output(name):
        return {"Get": f"Steps.Check.OutputParameters['{name}']"}

    marks = {name: f"<{name}>" for name in ("code", "job", "pictures", "weights", "checkpoints",
                                            "output")}  # fmt: skip
    request = create_training_job(
        "x",
        bucket=BUCKET,
        deployment="main",
        owner=output("owner"),
        role=DEPLOYMENT.training_role,
        image=output("image"),
        instance_type=output("instance_type"),
        max_runtime=output("max_runtime"),
        max_wait=output("max_wait"),
        **marks,
    )
    del request["TrainingJobName"]
    text = json.dumps(request)
    for name, mark in marks.items():
        joined = {"Std:Join": {"On": "", "Values": [f"s3://{BUCKET}/", output(name)]}}
        text = text.replace(json.dumps(f"s3://{BUCKET}/{mark}"), json.dumps(joined))

    assert steps(definition()["Steps"])["Train"]["Arguments"] == json.loads(text)


def test_each_reference_is_to_an_output_of_the_step_before():
    found = steps(definition()["Steps"])
    assert set(found) == {"Limits", "Check", "Start", "Train", "Publish", "TooLong"}
    outputs = {one["OutputName"] for one in found["Check"]["OutputParameters"]}
    used = set(re.findall(r"OutputParameters\['(\w+)'\]", json.dumps(definition())))

    assert used == outputs
    assert found["Check"]["Arguments"]["marker"] == {"Get": "Parameters.Marker"}


@pytest.fixture
def deployed(world, tmp_path, monkeypatch):
    """Return a function that runs `deploy`, and the variables of the function so far."""
    monkeypatch.setattr(gateway_project, "PROJECTS", tmp_path / ".easel")
    monkeypatch.setattr(checks, "ask_the_hub", lambda _model: {"gated": False})
    for place in ("training/__main__.py", "code/generation.py"):
        (tmp_path / "package" / place).parent.mkdir(parents=True)
        (tmp_path / "package" / place).write_text(place)
    monkeypatch.setattr(trainer, "_PACKAGE", tmp_path / "package")
    folder = write_pipeline(tmp_path / "tiny")
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([{"name": "anna", "sha256": "0" * 64}]))

    def chalice(context, project):
        config = json.loads((project.folder / ".chalice" / "config.json").read_text())
        variables = config["stages"]["main"]["environment_variables"]
        client = world.client("lambda")
        if context.gateway.function("easel-main") is None:
            create_gateway(world, Environment={"Variables": variables})
        else:
            client.update_function_configuration(
                FunctionName="easel-main", Environment={"Variables": variables}
            )

    def run(*more):
        arguments = ("--model", str(folder), "--image", IMAGE, "--weights", "s3", "--yes")
        keyed = () if "--open" in more else ("--keys", str(keys))
        return world.run(deploy.main, *arguments, *keyed, *more, fetch=lambda *_, **__: PNG)

    monkeypatch.setattr(gateway, "_run_chalice", chalice)
    # moto in this process cannot tag an API.
    world._before_tag_resource = lambda _params: aws_response({})
    return run


def test_deploy_with_training_sets_the_gateway_and_makes_the_stack(world, deployed, capsys):
    assert deployed("--training", "--training-image", TRAINING_IMAGE) == 0

    setting = json.loads(gateway_variables(world)["EASEL_TRAINING"])
    assert setting["role"] == DEPLOYMENT.training_role
    assert (setting["image"], setting["open"], setting["per_month"]) == (TRAINING_IMAGE, False, 20)
    entry = setting["models"]["tiny"]
    assert entry["instance_type"] == "ml.g5.xlarge"
    assert entry["seconds_per_step"] > 0
    listed = world.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=entry["weights"])
    assert f"{entry['weights']}unet/config.json" in [one["Key"] for one in listed["Contents"]]
    assert any("easel-main-training-start" in one for one in contents(world))
    iam = world.client("iam")
    roles = {role["RoleName"] for role in iam.list_roles()["Roles"]}
    assert {f"easel-main-training{end}-{REGION}" for end in ("", "-pipeline", "-rule")} <= roles

    # Without the option it stays; with --no-training it goes.
    assert deployed("--trainings-per-month", "5") == 0
    assert json.loads(gateway_variables(world)["EASEL_TRAINING"])["per_month"] == 5
    assert deployed("--no-training") == 0
    assert "EASEL_TRAINING" not in gateway_variables(world)
    assert not any("training" in one for one in contents(world))

    assert deployed("--training", "--training-image", TRAINING_IMAGE) == 0
    assert world.run(destroy.main, "--yes") == 0
    assert contents(world) == []


def test_training_without_keys_is_refused(world, deployed, capsys):
    assert deployed("--training", "--open") == 2

    assert "--training requires keys" in capsys.readouterr().err
    assert contents(world) == []


def _statements():
    """Yield each role's statements, with texts in place of CloudFormation's functions."""
    resources = PARSED["Resources"]
    documents = {
        name: resources[name]["Properties"]["Policies"][0]["PolicyDocument"]
        for name in ("TrainingRole", "PipelineRole", "StartRuleRole")
    }
    documents["GatewayPolicy"] = resources["GatewayPolicy"]["Properties"]["PolicyDocument"]
    return documents


@pytest.mark.parametrize("name", ["GatewayPolicy", "PipelineRole"])
def test_whoever_starts_jobs_is_limited(name):
    (start,) = [
        one
        for one in _statements()[name]["Statement"]
        if one["Action"] == ["sagemaker:CreateTrainingJob"]
    ]
    condition = start["Condition"]
    assert condition["Bool"] == {"sagemaker:NetworkIsolation": "true"}
    assert condition["NumericLessThanEquals"] == {
        "sagemaker:MaxRuntimeInSeconds": {"!Sub": "${LongestRun}"}
    }
    assert condition["ForAllValues:StringEquals"] == {
        "sagemaker:InstanceTypes": {"!Ref": "InstanceTypes"}
    }
    assert condition["StringEquals"] == {"aws:RequestTag/easel": {"!Ref": "DeploymentName"}}


def test_the_jobs_write_below_their_own_folders_only():
    writes = [
        resource["!Sub"].partition("AWS::Region}/")[2]
        for one in _statements()["TrainingRole"]["Statement"]
        if any(action in one["Action"] for action in ("s3:PutObject", "s3:DeleteObject"))
        for resource in one["Resource"]
    ]

    assert writes == [
        "batches/*/checkpoints/*",
        "compiled/models/*/checkpoints/*",
        "training/jobs/*/checkpoints/*",
        "batches/*/output/*",
        "compiled/models/*/output/*",
        "training/jobs/*/output/*",
    ]


def test_without_a_condition_no_action_is_for_every_resource():
    for name, document in _statements().items():
        for one in document["Statement"]:
            if one["Resource"] == "*":
                assert one["Action"] == ["ecr:GetAuthorizationToken"] or one["Condition"], name


@pytest.mark.parametrize("name", ["TrainingRole", "PipelineRole", "StartRuleRole", "GatewayPolicy"])
def test_parliament_finds_nothing_in_the_policies(name):
    text = json.dumps(_statements()[name])
    text = re.sub(r'\{"!Sub": ("[^"]*")\}', r"\1", text)
    text = text.replace('{"!GetAtt": "TrainingRole.Arn"}', json.dumps(DEPLOYMENT.training_role))
    for parameter, value in {
        "ImageRepositoryArns": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/x",
        "InstanceTypes": "ml.g5.xlarge",
        "DeploymentName": "main",
    }.items():
        text = text.replace(json.dumps({"!Ref": parameter}), json.dumps(value))
    for key, value in {"LongestRun": "3600", "DeploymentName": "main",
                       "AWS::AccountId": ACCOUNT, "AWS::Region": REGION,
                       "AWS::Partition": "aws"}.items():  # fmt: skip
        text = text.replace(f"${{{key}}}", value)
    done = subprocess.run(
        [find_program("parliament")], input=text, capture_output=True, text=True, timeout=120
    )

    assert (done.stdout + done.stderr, done.returncode) == ("", 0)
