"""What a training job may do is what the policies of its role allow."""

from __future__ import annotations

import pytest

from endpoint.emulator.aws_server import TRAINING_KEY
from endpoint.emulator.process.clients import Clients
from tests.end_to_end.guarded_aws import GuardedAws
from tests.endpoint.emulator.doubles import REGION
from tests.endpoint.emulator.training.conftest import Jobs
from tests.endpoint.emulator.training.doubles import job_request

NAME = "guarded-job"
_OBJECTS = f"arn:aws:s3:::guarded/{NAME}"
READ = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{_OBJECTS}/*"}
LIST = {
    "Effect": "Allow",
    "Action": "s3:ListBucket",
    "Resource": "arn:aws:s3:::guarded",
    "Condition": {"StringLike": {"s3:prefix": [f"{NAME}/*"]}},
}
WRITE = {
    "Effect": "Allow",
    "Action": ["s3:PutObject", "s3:DeleteObject"],
    "Resource": [f"{_OBJECTS}/checkpoints/*", f"{_OBJECTS}/output/*"],
}


@pytest.fixture(scope="module")
def guarded(training_role):
    with GuardedAws().serve() as aws:
        clients = Clients(lambda: aws.url)
        clients.get("s3", REGION).create_bucket(Bucket="guarded")
        yield aws, Jobs(clients)


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        ([LIST, READ, WRITE], None),
        ([LIST, WRITE], "ClientError: Data download failed:AccessDenied"),
        ([LIST, READ], "ClientError: Artifact upload failed:AccessDenied"),
    ],
)
def test_a_job_fails_where_its_role_lacks_a_right(guarded, statements, reason):
    aws, jobs = guarded
    aws.policies[TRAINING_KEY] = [{"Statement": statements}]
    script = '(home / "model" / "adapter.txt").write_text("one")'
    request = rename(job_request(jobs.s3, script, bucket="guarded"), jobs)
    jobs.sagemaker.create_training_job(**request)
    described = jobs.wait(NAME)
    jobs.sagemaker.delete_training_job(TrainingJobName=NAME)
    if reason is None:
        assert described["TrainingJobStatus"] == "Completed"
    else:
        assert described["FailureReason"].startswith(reason)


def rename(request, jobs):
    """Give a job the name of the policies above, and its script the place that they allow."""
    old = request["TrainingJobName"]
    source = {"Bucket": "guarded", "Key": f"{old}/code/job.py"}
    jobs.s3.copy_object(Bucket="guarded", Key=f"{NAME}/code/job.py", CopySource=source)
    place = f"s3://guarded/{NAME}"
    (channel,) = request["InputDataConfig"]
    channel["DataSource"]["S3DataSource"]["S3Uri"] = f"{place}/code/"
    request["OutputDataConfig"]["S3OutputPath"] = f"{place}/output"
    request["CheckpointConfig"]["S3Uri"] = f"{place}/checkpoints"
    return request | {"TrainingJobName": NAME}
