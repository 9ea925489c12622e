"""Pipelines over the wire: their steps run, and SageMaker's refusals."""

from __future__ import annotations

import json
import uuid

import pytest
from botocore.exceptions import ClientError

from endpoint.emulator.aws_server import AwsServer
from endpoint.emulator.process.clients import Clients
from tests.endpoint.emulator.doubles import BUCKET, REGION, is_alive, wait_until
from tests.endpoint.emulator.pipelines.doubles import (
    compare,
    condition,
    definition,
    fail,
    function,
    get,
    parameter,
)
from tests.endpoint.emulator.training.doubles import job_request

ENDED = {"Succeeded", "Failed", "Stopped"}


class Pipelines:
    def __init__(self, sagemaker, role):
        self.sagemaker, self.role = sagemaker, role

    def create(self, text):
        name = f"pipeline-{uuid.uuid4().hex[:8]}"
        token = uuid.uuid4().hex
        self.sagemaker.create_pipeline(
            PipelineName=name,
            PipelineDefinition=text,
            RoleArn=self.role,
            ClientRequestToken=token,
        )
        return name

    def start(self, name, token=None, **given):
        parameters = [{"Name": key, "Value": value} for key, value in given.items()]
        return self.sagemaker.start_pipeline_execution(
            PipelineName=name,
            PipelineParameters=parameters,
            ClientRequestToken=token or uuid.uuid4().hex,
        )["PipelineExecutionArn"]

    def describe(self, arn):
        return self.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)

    def wait(self, arn):
        wait_until(lambda: self.describe(arn)["PipelineExecutionStatus"] in ENDED)
        return self.describe(arn)["PipelineExecutionStatus"]

    def run(self, *steps, parameters=(), **given):
        arn = self.start(self.create(definition(*steps, parameters=parameters)), **given)
        return self.wait(arn), self.steps(arn)

    def steps(self, arn):
        listed = self.sagemaker.get_paginator("list_pipeline_execution_steps").paginate(
            PipelineExecutionArn=arn, SortOrder="Ascending"
        )
        return {
            step["StepName"]: step for page in listed for step in page["PipelineExecutionSteps"]
        }


@pytest.fixture
def pipelines(sagemaker, training_role, switches):
    yield Pipelines(sagemaker, training_role)
    switches.set_training(fails_with=None)


@pytest.fixture
def functions(aws):
    yield aws.functions.replaced
    aws.functions.replaced.clear()


def training(s3, script, name="Train", **more):
    request = job_request(s3, script)
    del request["TrainingJobName"]
    return {"Name": name, "Type": "Training", "Arguments": request, **more}


def test_a_pipeline_checks_trains_and_publishes(pipelines, functions, s3):
    calls = []
    functions["check"] = lambda event: {"count": 5, "prefix": event["prefix"] + "/checked"}

    def publish(event):
        calls.append(event)
        return {"published": "yes"}

    functions["publish"] = publish
    train = training(s3, '(home / "model" / "adapter.txt").write_text(sys.argv[1])')
    train["Arguments"]["AlgorithmSpecification"]["ContainerArguments"] = [
        get("Steps.Check.OutputParameters['prefix']")
    ]
    limit = compare("LessThanOrEqualTo", get("Parameters.Steps"), 100)
    status, steps = pipelines.run(
        condition(
            "Limits",
            [limit],
            [
                function(
                    "Check", {"prefix": get("Parameters.Prefix")}, ["count", "prefix"], "check"
                ),
                train,
                function(
                    "Publish",
                    {
                        "file": get("Steps.Train.ModelArtifacts.S3ModelArtifacts"),
                        "id": get("Execution.PipelineExecutionId"),
                        "n": get("Steps.Check.OutputParameters['count']"),
                    },
                    function_name="publish",
                ),
            ],
            [fail("TooMany", "at most 100 steps")],
        ),
        parameters=[parameter("Steps", "Integer", 50), parameter("Prefix")],
        Prefix="owls",
    )
    assert status == "Succeeded", steps
    assert list(steps) == ["Limits", "Check", "Train", "Publish"]
    assert {step["StepStatus"] for step in steps.values()} == {"Succeeded"}
    assert steps["Limits"]["Metadata"] == {"Condition": {"Outcome": "True"}}
    assert steps["Check"]["Metadata"]["Lambda"]["OutputParameters"] == [
        {"Name": "count", "Value": "5"},
        {"Name": "prefix", "Value": "owls/checked"},
    ]
    arn = steps["Train"]["Metadata"]["TrainingJob"]["Arn"]
    job = pipelines.sagemaker.describe_training_job(TrainingJobName=arn.rpartition("/")[2])
    artifacts = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert calls == [{"file": artifacts, "id": job["TrainingJobName"].split("-")[1], "n": 5}]
    key = artifacts.partition(f"{BUCKET}/")[2] + "adapter.txt"
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"owls/checked"


def test_a_condition_that_does_not_hold_runs_the_other_branch(pipelines):
    status, steps = pipelines.run(
        condition("Limits", [compare("Equals", 1, 2)], [], [fail("TooMany", "too many")]),
        fail("After", DependsOn=["Limits"]),
    )
    assert (status, list(steps)) == ("Failed", ["Limits", "TooMany"])
    assert steps["Limits"]["Metadata"] == {"Condition": {"Outcome": "False"}}
    assert steps["TooMany"]["Metadata"] == {"Fail": {"ErrorMessage": "too many"}}
    assert steps["TooMany"]["FailureReason"] == "too many"


def test_a_failed_job_fails_its_step(pipelines, s3):
    script = 'home.joinpath("output", "failure").write_text("No pictures.")\nsys.exit(1)'
    arn = pipelines.start(pipelines.create(definition(training(s3, script))))
    assert pipelines.wait(arn) == "Failed"
    reason = pipelines.steps(arn)["Train"]["FailureReason"]
    assert reason == "ClientError: AlgorithmError: No pictures., exit code: 1"
    assert pipelines.describe(arn)["FailureReason"].startswith("Step failure")
    (listed,) = pipelines.sagemaker.list_pipeline_executions(PipelineName=arn.split("/")[1])[
        "PipelineExecutionSummaries"
    ]
    assert listed["PipelineExecutionStatus"] == "Failed"


def test_a_job_that_is_refused_fails_its_step(pipelines, s3):
    step = training(s3, "")
    step["Arguments"]["EnableManagedSpotTraining"] = True
    status, steps = pipelines.run(step)
    assert status == "Failed"
    assert "ValidationException: Invalid MaxWaitTimeInSeconds" in steps["Train"]["FailureReason"]


def test_a_retry_policy_tries_again(pipelines, s3, switches):
    policy = {
        "ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR"],
        "IntervalSeconds": 1,
        "BackoffRate": 1,
        "MaxAttempts": 3,
    }
    switches.set_training(fails_with="InternalServerError: We encountered an internal error.")
    switches.set_clock(speed=50)
    status, steps = pipelines.run(training(s3, "", RetryPolicies=[policy]))
    switches.set_clock(speed=1)
    assert (status, steps["Train"]["AttemptCount"]) == ("Failed", 3)


def raise_error(_):
    raise ValueError("no such data set")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (raise_error, "no such data set"),
        (lambda _: {"other": 1}, "returned no text or number x"),
        (lambda _: {"x": {"deep": 1}}, "returned no text or number x"),
        (lambda _: None, "returned no text or number x"),
    ],
)
def test_a_function_that_fails_fails_its_step(pipelines, functions, answer, reason):
    functions["check"] = answer
    status, steps = pipelines.run(function("Check", outputs=["x"], function_name="check"))
    assert status == "Failed"
    assert reason in steps["Check"]["FailureReason"]


def test_a_function_that_does_not_exist_fails_its_step(pipelines):
    _, steps = pipelines.run(function("unknown"))
    assert "ResourceNotFoundException" in steps["unknown"]["FailureReason"]


def test_stopping_an_execution_stops_its_job(pipelines, s3):
    script = '(home / "checkpoints" / "ready").write_text("1")\ntime.sleep(600)'
    name = pipelines.create(definition(training(s3, script), fail(DependsOn=["Train"])))
    arn = pipelines.start(name)
    wait_until(lambda: "TrainingJob" in pipelines.steps(arn).get("Train", {}).get("Metadata", {}))
    with pytest.raises(ClientError, match=r"\(ConflictException\)"):
        pipelines.sagemaker.delete_pipeline(PipelineName=name, ClientRequestToken="x" * 32)
    pipelines.sagemaker.stop_pipeline_execution(
        PipelineExecutionArn=arn, ClientRequestToken="x" * 32
    )
    assert pipelines.wait(arn) == "Stopped"
    step = pipelines.steps(arn)["Train"]
    assert step["StepStatus"] == "Stopped"
    job = step["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    described = pipelines.sagemaker.describe_training_job(TrainingJobName=job)
    assert described["TrainingJobStatus"] == "Stopped"
    with pytest.raises(ClientError, match="cannot be stopped"):
        pipelines.sagemaker.stop_pipeline_execution(
            PipelineExecutionArn=arn, ClientRequestToken="x" * 32
        )
    pipelines.sagemaker.delete_pipeline(PipelineName=name, ClientRequestToken="x" * 32)
    with pytest.raises(ClientError, match="does not exist"):
        pipelines.start(name)


def test_a_token_starts_one_execution(pipelines):
    name = pipelines.create(definition(fail(), parameters=[parameter("p", default="")]))
    token = uuid.uuid4().hex
    assert pipelines.start(name, token, p="1") == pipelines.start(name, token, p="1")
    assert pipelines.start(name, p="1") != pipelines.start(name, token, p="1")
    with pytest.raises(ClientError, match=r"\(ConflictException\)"):
        pipelines.start(name, token, p="2")


def test_bad_definitions_and_parameters_are_refused(pipelines, s3):
    with pytest.raises(ClientError, match="Unable to parse pipeline definition"):
        pipelines.create("{}")
    step = training(s3, "")
    step["Arguments"]["TrainingJobName"] = "mine"
    with pytest.raises(ClientError, match=r"unknown or no argument \[TrainingJobName\]"):
        pipelines.create(definition(step))
    name = pipelines.create(definition(fail(), parameters=[parameter("p", "Integer", 1)]))
    with pytest.raises(ClientError, match="no Integer"):
        pipelines.start(name, p="x")
    with pytest.raises(ClientError, match="Unable to parse"):
        pipelines.sagemaker.update_pipeline(PipelineName=name, PipelineDefinition="{")
    with pytest.raises(ClientError, match="Could not assume role"):
        pipelines.sagemaker.update_pipeline(
            PipelineName=name, RoleArn="arn:aws:iam::123456789012:role/x"
        )


def test_a_stack_has_a_pipeline(clients, pipelines, training_role):
    cloudformation = clients.get("cloudformation", REGION)
    name = f"pipeline-{uuid.uuid4().hex[:8]}"

    def template(message):
        own = {
            "PipelineName": name,
            "PipelineDefinition": {"PipelineDefinitionBody": definition(fail("No", message))},
            "RoleArn": training_role,
        }
        resource = {"Type": "AWS::SageMaker::Pipeline", "Properties": own}
        outputs = {"Name": {"Value": {"Ref": "Training"}}}
        return json.dumps({"Resources": {"Training": resource}, "Outputs": outputs})

    cloudformation.create_stack(StackName=name, TemplateBody=template("one"))
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    assert stack["Outputs"] == [{"OutputKey": "Name", "OutputValue": name}]
    (resource,) = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    assert resource["PhysicalResourceId"] == name
    cloudformation.update_stack(StackName=name, TemplateBody=template("two"))
    arn = pipelines.start(name)
    assert pipelines.wait(arn) == "Failed"
    assert pipelines.steps(arn)["No"]["FailureReason"] == "two"
    cloudformation.delete_stack(StackName=name)
    with pytest.raises(ClientError, match="does not exist"):
        pipelines.start(name)


def test_an_emulator_ends_at_once_with_a_pipeline_whose_job_ignores_signals(training_role):
    script = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (home / "checkpoints" / "pid").write_text(str(os.getpid()))
        time.sleep(600)
        """
    bucket = "ending"
    with AwsServer().serve() as aws:
        clients = Clients(lambda: aws.url)
        s3 = clients.get("s3", REGION)
        s3.create_bucket(Bucket=bucket)
        request = job_request(s3, script, bucket=bucket)
        key = f"{request.pop('TrainingJobName')}/checkpoints/pid"
        own = Pipelines(clients.get("sagemaker", REGION), training_role)
        own.start(own.create(definition({"Name": "T", "Type": "Training", "Arguments": request})))
        wait_until(lambda: "Contents" in s3.list_objects_v2(Bucket=bucket, Prefix=key))
        pid = int(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    assert not is_alive(pid)
