"""The pipeline of `training.yaml`: from a marker in S3 to a published adapter.

Everything is real but AWS and the trainer, which learns nothing in a moment: the stack's rules,
roles and pipeline, the gateway's own function behind its Lambda steps, and the files in S3. What
the roles do not allow is refused.
"""

from __future__ import annotations

import json
import time
from functools import partial

import pytest

from chalicelib.training_jobs import places
from endpoint.emulator.aws_server import EVENTS_KEY, PIPELINE_KEY, TRAINING_KEY
from endpoint.emulator.client import EmulatorClient
from endpoint.emulator.moto_ import service_quotas
from endpoint.emulator.process.clients import Clients
from tests.end_to_end.account import BUCKET, REGION
from tests.end_to_end.training.callers import KEYS, PICTURES, Client, picture
from tests.end_to_end.training_gateway import FUNCTION
from tests.policies import iam, role_policies

PIPELINE = "easel-main-training"
# https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html#sagemaker-roles-createtrainingjob-perms
BY_SAGEMAKER = [
    *(
        iam.Request(f"ecr:{action}", role_policies.REPOSITORY)
        for action in ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer")
    ),
    iam.Request("ecr:GetAuthorizationToken"),
    iam.Request(
        "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "/aws/sagemaker/TrainingJobs"}
    ),
    *(
        iam.Request(
            f"logs:{action}",
            iam.ARN.format("logs", "log-group:/aws/sagemaker/TrainingJobs:log-stream:x"),
        )
        for action in ("CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents")
    ),
]
SECONDS = 60


@pytest.fixture
def switches(aws):
    client = EmulatorClient(aws.url)
    before = client.undelivered()
    yield client
    client.set_deliveries(1)
    assert client.undelivered() == before


@pytest.fixture
def client(monkeypatch, account, aws, switches):
    client = Client(monkeypatch)
    aws.functions.replaced[FUNCTION] = client.invoke
    yield client
    aws.functions.replaced.clear()


class Uploads:
    """A data set of the operator's, and what its markers have started."""

    def __init__(self, aws, s3):
        self._sagemaker, self._s3 = Clients(lambda: aws.url).get("sagemaker", REGION), s3
        self.id = places.new_id()
        self._before = set(self._executions())
        for name, color in (("a", "teal"), ("b", "red")):
            self.put(f"{name}.png", picture(color))

    def put(self, name, body):
        key = places.dataset_file(places.OPERATOR, self.id, name)
        self._s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    def mark(self, **fields):
        self.put("start.json", json.dumps({"trigger": "a fxo", **fields}).encode())

    def _executions(self):
        listed = self._sagemaker.list_pipeline_executions(PipelineName=PIPELINE, MaxResults=100)
        return {
            item["PipelineExecutionArn"]: item["PipelineExecutionStatus"]
            for item in listed["PipelineExecutionSummaries"]
        }

    def ended(self, count=1):
        """Return the steps by name of as many executions, when they have ended, oldest first."""

        def statuses():
            executions = self._executions().items()
            own = {arn: status for arn, status in executions if arn not in self._before}
            return own if len(own) == count and "Executing" not in own.values() else None

        return [(status, self._steps(arn)) for arn, status in [*_wait(statuses).items()][::-1]]

    def _steps(self, arn):
        listed = self._sagemaker.list_pipeline_execution_steps(
            PipelineExecutionArn=arn, SortOrder="Ascending"
        )
        return {
            step["StepName"]: step.get("FailureReason", step["StepStatus"])
            for step in listed["PipelineExecutionSteps"]
        }

    def jobs(self, status=""):
        asked = {"StatusEquals": status} if status else {}
        listed = self._sagemaker.list_training_jobs(
            NameContains="pipelines-", MaxResults=100, **asked
        )
        return [
            job["TrainingJobName"]
            for job in listed["TrainingJobSummaries"]
            if self.id in self._described(job)["OutputDataConfig"]["S3OutputPath"]
        ]

    def _described(self, job):
        return self._sagemaker.describe_training_job(TrainingJobName=job["TrainingJobName"])


def _wait(ready, seconds=SECONDS):
    until = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


@pytest.fixture
def uploads(client, aws, account):
    return Uploads(aws, account)


def read(s3, key):
    try:
        return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None


def test_a_marker_becomes_an_adapter_and_a_second_one_changes_nothing(uploads, account):
    uploads.put("a.txt", b"a fxo in the snow")
    uploads.mark(name="snow", steps=20)
    ((status, steps),) = uploads.ended()

    assert status == "Succeeded"
    assert list(steps) == ["Limits", "Check", "Start", "Train", "Publish"]
    adapter = read(account, places.adapter("demo", "snow"))
    assert adapter is not None
    record = json.loads(read(account, places.record(uploads.id)))
    assert (record["owner"], record["published"] is not None) == (places.OPERATOR, True)
    assert record["sagemaker_job"] in uploads.jobs()
    assert read(account, places.running(places.OPERATOR)) is None

    uploads.mark(name="other")
    _, (status, steps) = uploads.ended(2)
    assert (status, list(steps)) == ("Succeeded", ["Limits", "Check", "Start"])
    assert len(uploads.jobs()) == 1
    assert read(account, places.adapter("demo", "other")) is None


def test_an_event_that_arrives_twice_starts_one_job(uploads, account, switches):
    switches.set_deliveries(2)
    uploads.mark(name="twice")
    ended = uploads.ended(2)

    assert [status for status, _ in ended] == ["Succeeded", "Succeeded"]
    assert sorted(len(steps) for _, steps in ended) == [3, 5]
    assert len(uploads.jobs()) == 1
    assert read(account, places.adapter("demo", "twice")) is not None


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ({"name": "x", "steps": 0}, "steps: must be a whole number from 1"),
        ({"name": "x", "model": "sdxl"}, "model: must be one of demo"),
        ({"name": "x", "steps": 20_000, "resolution": 1_024}, "steps: "),
        ({"name": "x", "on_demand": True}, "on_demand: "),
    ],
)
def test_a_marker_that_asks_for_nothing_possible_fails_with_a_sentence(uploads, marker, words):
    uploads.mark(**marker)
    ((status, steps),) = uploads.ended()

    assert status == "Failed"
    assert list(steps) == ["Limits", "Check"]
    assert words in steps["Check"]
    assert uploads.jobs() == []


def test_after_a_failed_check_a_better_marker_starts_the_job(uploads, account):
    uploads.put("c.png", b"GIF89a")
    uploads.mark(name="better")
    ((_, steps),) = uploads.ended()
    assert "c.png is no PNG, JPEG or WebP picture" in steps["Check"]

    uploads.put("c.png", picture("blue"))
    uploads.mark(name="better")
    _, (status, _) = uploads.ended(2)
    assert status == "Succeeded"
    assert read(account, places.adapter("demo", "better")) is not None


def test_a_trainer_that_fails_frees_the_name_and_the_next_job_can_start(uploads, account):
    uploads.mark(name="broken")
    ((status, steps),) = uploads.ended()

    assert status == "Failed"
    assert list(steps)[-1] == "Train"
    assert "0003.png</b> cannot be decoded." in steps["Train"]
    # By the event of the job's end: nobody asks for the job.
    _wait(lambda: json.loads(read(account, places.record(uploads.id)))["error"])
    _wait(lambda: read(account, places.running(places.OPERATOR)) is None)
    assert read(account, places.name_claim("demo", "broken")) is None


def test_each_statement_of_the_roles_is_needed(uploads, aws):
    uploads.mark(name="rights")
    ((status, _),) = uploads.ended()
    assert status == "Succeeded"

    for caller, role, by_aws in (
        (TRAINING_KEY, "TrainingRole", BY_SAGEMAKER),
        (PIPELINE_KEY, "PipelineRole", []),
        (EVENTS_KEY, "StartRuleRole", []),
    ):
        policy = role_policies.of_role(role)
        own = {"sagemaker:StartPipelineExecution"} if caller == EVENTS_KEY else set()
        calls = [one for one in aws.asked[caller] if not own or one.action in own] + by_aws
        assert iam.refused(policy, calls) == []
        for statement in policy["Statement"]:
            rest = [other for other in policy["Statement"] if other is not statement]
            assert iam.refused({"Statement": rest}, calls), (role, statement["Sid"])


def test_another_instance_after_a_lack_of_them_publishes_the_adapter(uploads, account, switches):
    switches.set_training(fails_with="CapacityError: Unable to provision the requested instances.")
    uploads.mark(name="patient")
    first = _wait(lambda: uploads.jobs("Failed"))
    switches.set_training(fails_with="")
    _wait(lambda: switches.set_clock(skip=1) or len(uploads.jobs()) == 2)  # within a minute
    ((status, steps),) = uploads.ended()

    assert status == "Succeeded", steps
    record = json.loads(read(account, places.record(uploads.id)))
    assert record["published"] is not None
    assert record["sagemaker_job"] in set(uploads.jobs()) - set(first)


def test_a_job_that_aws_refuses_blocks_nothing_and_says_why(uploads, client, account, monkeypatch):
    quota = "ml.g5.xlarge for spot training job usage"
    monkeypatch.setitem(service_quotas.TRAINING_QUOTAS, quota, 0.0)
    uploads.mark(name="refused")
    ((status, steps),) = uploads.ended()
    assert (status, list(steps)[-1]) == ("Failed", "Train")
    monkeypatch.undo()

    found = client.training.find(places.OPERATOR, uploads.id)
    assert found.state.name == "failed"
    assert quota in found.state.error
    assert read(account, places.running(places.OPERATOR)) is None
    assert read(account, places.name_claim("demo", "refused")) is None


def test_the_end_of_a_job_publishes_it_though_nobody_asks(client, account):
    job = client.start(dataset=client.upload(*PICTURES), name="unasked", trigger="a fxo")

    assert _wait(partial(read, account, places.adapter("demo", "unasked")))
    _wait(lambda: json.loads(read(account, places.record(job)))["published"])
    assert client.request("DELETE", "/loras/demo/unasked", **KEYS).status_code == 204
