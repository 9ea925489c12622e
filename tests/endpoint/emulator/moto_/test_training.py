"""SageMaker's calls on training jobs, as AWS answers them."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from endpoint.emulator.moto_ import service_quotas
from endpoint.emulator.training.service import Training
from tests.endpoint.emulator.doubles import BUCKET, REGION
from tests.endpoint.emulator.training.doubles import channel, job_request, spot


@pytest.fixture
def create(sagemaker, s3, training_role):
    def create(script="", **changes):
        request = job_request(s3, script, **changes)
        sagemaker.create_training_job(**request)
        return request["TrainingJobName"]

    return create


@pytest.fixture
def ended(sagemaker, create):
    name = create()
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName=name, WaiterConfig={"Delay": 0, "MaxAttempts": 2_000}
    )
    return name


def refused(code, words):
    return pytest.raises(ClientError, match=rf"\({code}\).*{words}")


def test_a_name_is_free_again_after_its_job_is_deleted(sagemaker, create, ended):
    with refused("ResourceInUse", "a training job with this name already exists"):
        create(TrainingJobName=ended)
    sagemaker.delete_training_job(TrainingJobName=ended)
    with refused("ResourceNotFound", "not found"):
        sagemaker.delete_training_job(TrainingJobName=ended)
    create(TrainingJobName=ended)


def test_a_job_in_progress_is_not_deleted(sagemaker, create):
    name = create("time.sleep(600)")
    with refused("ResourceInUse", "cannot be deleted"):
        sagemaker.delete_training_job(TrainingJobName=name)
    sagemaker.stop_training_job(TrainingJobName=name)


def test_an_unknown_job_is_not_found(sagemaker):
    for call in (sagemaker.describe_training_job, sagemaker.stop_training_job):
        with refused("ValidationException", "Requested resource not found"):
            call(TrainingJobName="unknown")


def test_a_job_that_is_being_created_is_not_there_yet(sagemaker, create, monkeypatch):
    start, names = Training.create, []

    def look_and_start(self, request, *arguments):
        name = request["TrainingJobName"]
        assert sagemaker.list_training_jobs(NameContains=name)["TrainingJobSummaries"] == []
        with refused("ValidationException", "Requested resource not found"):
            sagemaker.describe_training_job(TrainingJobName=name)
        names.append(name)
        return start(self, request, *arguments)

    monkeypatch.setattr(Training, "create", look_and_start)
    assert [create()] == names


def test_jobs_are_listed_by_name_status_and_time(sagemaker, create, ended):
    prefix = f"easel-{ended}"
    names = [create("time.sleep(600)", TrainingJobName=f"{prefix}-{end}") for end in "ab"]

    def listed(**asked):
        return [
            job["TrainingJobName"]
            for page in sagemaker.get_paginator("list_training_jobs").paginate(**asked)
            for job in page["TrainingJobSummaries"]
        ]

    assert listed(NameContains=prefix) == names[::-1]
    assert listed(NameContains=prefix, SortBy="Name", SortOrder="Ascending") == names
    assert listed(NameContains=prefix, PaginationConfig={"PageSize": 1}) == names[::-1]
    assert ended in listed(NameContains=ended, StatusEquals="Completed")
    assert listed(NameContains=prefix, StatusEquals="Completed") == []
    created = sagemaker.describe_training_job(TrainingJobName=names[1])["CreationTime"]
    # botocore sends whole seconds.
    later = created + timedelta(seconds=2)
    assert listed(NameContains=prefix, CreationTimeAfter=later) == []
    assert listed(NameContains=prefix, CreationTimeBefore=later) == names[::-1]
    for name in names:
        sagemaker.stop_training_job(TrainingJobName=name)


def test_a_jobs_tags_are_listed_and_not_described(sagemaker, create):
    name = create(Tags=[{"Key": "easel", "Value": "main"}])
    described = sagemaker.describe_training_job(TrainingJobName=name)
    tags = sagemaker.list_tags(ResourceArn=described["TrainingJobArn"])["Tags"]
    assert tags == [{"Key": "easel", "Value": "main"}]


def resources(**changes):
    return {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30, **changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"TrainingJobName": "a_b"}, "'trainingJobName' failed to satisfy constraint: Member must"),
        ({"TrainingJobName": "a" * 64}, "length less than or equal to 63"),
        ({"RoleArn": "arn:aws:iam::123456789012:role/unknown"}, "Could not assume role"),
        ({"Environment": {"A": "x" * 513}}, "at 'environment.A.member'"),
        ({"HyperParameters": {"a": "x" * 2_501}}, "at 'hyperParameters.a.member'"),
        ({"ResourceConfig": resources(InstanceType="ml.huge")}, "satisfy enum value set"),
        ({"ResourceConfig": resources(InstanceCount=2)}, "InstanceCount"),
        ({"ResourceConfig": resources(KeepAlivePeriodInSeconds=30_000)}, "less than or equal to"),
        (spot(StoppingCondition={"MaxRuntimeInSeconds": 60}), "Invalid MaxWaitTimeInSeconds"),
        ({"StoppingCondition": spot()["StoppingCondition"]}, "EnableManagedSpotTraining only"),
        (spot(ResourceConfig=resources(KeepAlivePeriodInSeconds=60)), "KeepAlivePeriodInSeconds"),
        ({"InputDataConfig": [channel("a", f"s3://{BUCKET}/nothing/")]}, "No S3 objects found"),
        ({"InputDataConfig": [channel("a", "s3://no-such-bucket-1/a")]}, "No S3 objects found"),
        ({"InputDataConfig": [channel("a", "s3://b/c")] * 2}, "unique"),
        ({"InputDataConfig": [channel("a/b", "s3://b/c")]}, "regular expression"),
        ({"CheckpointConfig": {"S3Uri": "s3://b/c", "LocalPath": "/other"}}, "LocalPath"),
        ({"AlgorithmSpecification": {"TrainingInputMode": "File"}}, "algorithm name or a training"),
    ],
)
def test_what_sagemaker_refuses_costs_nothing(sagemaker, create, changes, words):
    with refused("ValidationException", words):
        create(**changes)


def test_jobs_count_against_quotas_of_their_own(sagemaker, create, monkeypatch):
    quotas = service_quotas.TRAINING_QUOTAS
    kind = {"ResourceConfig": resources(InstanceType="ml.g6.xlarge")}
    monkeypatch.setitem(quotas, "ml.g6.xlarge for training job usage", 0.0)
    monkeypatch.setitem(quotas, "ml.g6.xlarge for spot training job usage", 1.0)
    with refused("ResourceLimitExceeded", "'ml.g6.xlarge for training job usage' is 0 Instances"):
        create(**kind)
    name = create("time.sleep(600)", **spot(**kind))
    with refused("ResourceLimitExceeded", "current utilization of 1 Instances"):
        create(**spot(**kind))
    sagemaker.stop_training_job(TrainingJobName=name)


def test_service_quotas_shows_those_of_training_jobs(clients, monkeypatch):
    monkeypatch.setitem(
        service_quotas.TRAINING_QUOTAS, "ml.g5.xlarge for spot training job usage", 0.0
    )
    quotas = clients.get("service-quotas", REGION).list_service_quotas(ServiceCode="sagemaker")
    values = {quota["QuotaName"]: quota["Value"] for quota in quotas["Quotas"]}
    assert values["ml.g5.xlarge for spot training job usage"] == 0
    assert values["ml.g5.xlarge for training job usage"] == 2


def test_a_change_of_status_is_an_event(clients, sagemaker, s3, training_role):
    events, sqs = clients.get("events", REGION), clients.get("sqs", REGION)
    queue = sqs.create_queue(QueueName="training-events")["QueueUrl"]
    request = job_request(s3, 'home.joinpath("output", "failure").write_text("No.")\nsys.exit(1)')
    name = request["TrainingJobName"]
    pattern = {
        "source": ["aws.sagemaker"],
        "detail-type": ["SageMaker Training Job State Change"],
        "detail": {"TrainingJobName": [name], "TrainingJobStatus": ["Failed"]},
    }
    events.put_rule(Name="training", EventPattern=json.dumps(pattern))
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    events.put_targets(Rule="training", Targets=[{"Id": "queue", "Arn": arn["QueueArn"]}])
    sagemaker.create_training_job(**request)
    (message,) = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20)["Messages"]
    event = json.loads(message["Body"])
    assert event["resources"] == [event["detail"]["TrainingJobArn"]]
    assert event["detail"]["FailureReason"] == "AlgorithmError: No., exit code: 1"
    assert isinstance(event["detail"]["CreationTime"], int)
