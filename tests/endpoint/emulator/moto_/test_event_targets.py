"""Events that reach pipelines and functions, and those that do not."""

from __future__ import annotations

import io
import json
import uuid
import zipfile

import pytest

from endpoint.emulator.process.http_server import QuietHandler, serving
from tests.endpoint.emulator.doubles import REGION, wait_until
from tests.endpoint.emulator.pipelines.doubles import definition, fail, get, parameter
from tests.endpoint.emulator.training.doubles import job_request

ACCOUNT = "123456789012"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"


@pytest.fixture
def bucket(s3):
    """A bucket whose events are sent to EventBridge."""
    name = f"events-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    s3.put_bucket_notification_configuration(
        Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    return name


@pytest.fixture
def rule(clients, bucket):
    """Make a rule for a bucket's marker files, with one target."""
    events, made = clients.get("events", REGION), []

    def make(pattern=None, **target):
        name = f"rule-{uuid.uuid4().hex[:8]}"
        key = {"key": [{"wildcard": "datasets/*/start.json"}]}
        pattern = pattern or {
            "source": ["aws.s3"],
            "detail-type": ["Object Created"],
            "detail": {"bucket": {"name": [bucket]}, "object": key},
        }
        made.append(name)
        arn = events.put_rule(Name=name, EventPattern=json.dumps(pattern))["RuleArn"]
        events.put_targets(Rule=name, Targets=[{"Id": "target", **target}])
        return arn

    yield make
    for name in made:
        events.remove_targets(Rule=name, Ids=["target"])
        events.delete_rule(Name=name)


@pytest.fixture
def pipeline(sagemaker, training_role):
    """A pipeline that fails with the key that it was given."""
    name = f"pipeline-{uuid.uuid4().hex[:8]}"
    text = definition(
        fail(
            message={
                "Std:Join": {"On": " ", "Values": [get("Parameters.Key"), get("Parameters.Why")]}
            }
        ),
        parameters=[parameter("Key"), parameter("Why", default="none")],
    )
    return sagemaker.create_pipeline(
        PipelineName=name,
        PipelineDefinition=text,
        RoleArn=training_role,
        ClientRequestToken=uuid.uuid4().hex,
    )["PipelineArn"]


@pytest.fixture
def messages(sagemaker, pipeline):
    """Return what each execution of the pipeline ended with."""
    name = pipeline.rpartition("/")[2]

    def read():
        listed = sagemaker.list_pipeline_executions(PipelineName=name)
        arns = [item["PipelineExecutionArn"] for item in listed["PipelineExecutionSummaries"]]
        steps = [
            sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)[
                "PipelineExecutionSteps"
            ]
            for arn in arns
        ]
        return [step[0]["FailureReason"] for step in steps if step and "FailureReason" in step[0]]

    return read


@pytest.fixture
def received(aws):
    """The events of the function `publish`, which the test replaces."""
    events = []
    aws.functions.replaced["publish"] = events.append
    yield events
    aws.functions.replaced.clear()


def key_parameters(*more):
    listed = [{"Name": "Key", "Value": "$.detail.object.key"}, *more]
    return {"PipelineParameterList": listed}


def test_an_uploaded_marker_starts_the_pipeline(
    rule, s3, bucket, pipeline, messages, training_role
):
    rule(
        Arn=pipeline,
        RoleArn=training_role,
        SageMakerPipelineParameters=key_parameters({"Name": "Why", "Value": "a $.detail"}),
    )
    s3.put_object(Bucket=bucket, Key="datasets/me/owls/1.png", Body=b"1")
    s3.put_object(Bucket=bucket, Key="datasets/me/owls/start.json", Body=b"{}")
    wait_until(messages)
    # A path is one only if it is the whole value.
    assert messages() == ["datasets/me/owls/start.json a $.detail"]


def test_an_event_can_be_delivered_twice(
    rule, s3, bucket, pipeline, messages, training_role, switches
):
    rule(Arn=pipeline, RoleArn=training_role, SageMakerPipelineParameters=key_parameters())
    switches.set_deliveries(2)
    s3.put_object(Bucket=bucket, Key="datasets/me/start.json", Body=b"{}")
    switches.set_deliveries(1)
    wait_until(lambda: len(messages()) == 2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/unknown"}, "cannot assume the role"),
        ({"SageMakerPipelineParameters": {"PipelineParameterList": []}}, "no default value"),
        (
            {
                "SageMakerPipelineParameters": {
                    "PipelineParameterList": [{"Name": "Key", "Value": "$.detail.nothing"}]
                }
            },
            "the event has no",
        ),
    ],
)
def test_what_cannot_be_delivered_is_told(
    rule, s3, bucket, pipeline, training_role, switches, change, reason
):
    target = {"RoleArn": training_role, "SageMakerPipelineParameters": key_parameters()}
    name = rule(Arn=pipeline, **target | change).rpartition("/")[2]
    s3.put_object(Bucket=bucket, Key="datasets/me/start.json", Body=b"{}")
    own = lambda: [text for text in switches.undelivered() if text.startswith(f"{name}:")]  # noqa: E731
    wait_until(own)
    assert reason in own()[0]


def test_a_function_gets_a_jobs_changes_of_status(rule, s3, sagemaker, received, training_role):
    request = job_request(s3, "")
    name = request["TrainingJobName"]
    rule(
        {
            "source": ["aws.sagemaker"],
            "detail-type": ["SageMaker Training Job State Change"],
            "detail": {"TrainingJobName": [name], "TrainingJobStatus": ["Completed"]},
        },
        Arn=f"{FUNCTION}publish",
    )
    sagemaker.create_training_job(**request)
    wait_until(lambda: received)
    (event,) = received
    assert event["source"] == "aws.sagemaker"
    assert event["detail"]["TrainingJobName"] == name
    assert event["detail"]["ModelArtifacts"]["S3ModelArtifacts"].endswith("/output/model/")
    assert event["time"].endswith("Z")


def test_input_and_its_paths_shape_what_a_function_gets(rule, s3, bucket, received):
    rule(Arn=f"{FUNCTION}publish", Input='{"fixed": 1}')
    rule(Arn=f"{FUNCTION}publish", InputPath="$.detail.bucket")
    template = {"InputPathsMap": {"key": "$.detail.object.key"}, "InputTemplate": '{"k": <key>}'}
    rule(Arn=f"{FUNCTION}publish", InputTransformer=template)
    s3.put_object(Bucket=bucket, Key="datasets/me/start.json", Body=b"{}")
    wait_until(lambda: len(received) == 3)
    assert {"fixed": 1} in received
    assert {"name": bucket} in received
    assert {"k": "datasets/me/start.json"} in received


class Hook(QuietHandler):
    def do_POST(self):
        self.server.bodies.append(json.loads(self.body()))
        self.answer(200, [], b'{"ok": true}')


def test_an_address_can_take_a_functions_place(clients, switches):
    with serving(Hook, bodies=[]) as server:
        switches.replace_function("hooked", server.url)
        answer = clients.get("lambda", REGION).invoke(
            FunctionName=f"{FUNCTION}hooked", Payload=b'{"a": 1}'
        )
        assert json.loads(answer["Payload"].read()) == {"ok": True}
        assert server.bodies == [{"a": 1}]
        switches.replace_function("hooked", None)


def test_a_function_must_let_the_rule_invoke_it(
    rule, clients, s3, bucket, received, switches, training_role
):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", "def app(event, context): return event")
    functions = clients.get("lambda", REGION)
    functions.create_function(
        FunctionName="publish",
        Runtime="python3.11",
        Role=training_role,
        Handler="app.app",
        Code={"ZipFile": packed.getvalue()},
    )
    arn = rule(Arn=f"{FUNCTION}publish")
    s3.put_object(Bucket=bucket, Key="datasets/me/start.json", Body=b"{}")
    name = arn.rpartition("/")[2]
    wait_until(lambda: any(text.startswith(f"{name}:") for text in switches.undelivered()))
    assert received == []
    functions.add_permission(
        FunctionName="publish",
        StatementId="rule",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=arn,
    )
    s3.put_object(Bucket=bucket, Key="datasets/me/start.json", Body=b"{}")
    wait_until(lambda: received)
    functions.delete_function(FunctionName="publish")
