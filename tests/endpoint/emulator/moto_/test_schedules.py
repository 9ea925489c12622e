"""Schedules of EventBridge Scheduler, through the emulator's own address."""

from __future__ import annotations

import io
import json
import time
import uuid
import zipfile
from datetime import UTC, datetime, timedelta

import pytest

from tests.endpoint.emulator.doubles import REGION, create_endpoint, wait_until

ACCOUNT = "123456789012"
TARGET = "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint"
CODE = """
import os, time, boto3
def handler(event, context):
    place = {"Bucket": os.environ["BUCKET"], "Key": "ran"}
    boto3.client("s3").put_object(**place, Body=str(time.time()).encode())
"""


@pytest.fixture(scope="module")
def role(clients):
    """A role that EventBridge Scheduler can assume."""
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole",
             "Principal": {"Service": "scheduler.amazonaws.com"}}  # fmt: skip
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    name = f"scheduler-{uuid.uuid4().hex[:8]}"
    made = clients.get("iam", REGION).create_role(RoleName=name, AssumeRolePolicyDocument=document)
    return made["Role"]["Arn"]


@pytest.fixture
def scheduler(clients, aws):
    """A client; its group, which is deleted afterwards, is the attribute `group`."""
    client = clients.get("scheduler", REGION)
    client.group = f"group-{uuid.uuid4().hex[:8]}"
    client.create_schedule_group(Name=client.group)
    aws.schedules.failed.clear()
    yield client
    client.delete_schedule_group(Name=client.group)


def put(scheduler, role, expression, arn=TARGET, change="create", **given):
    call = getattr(scheduler, f"{change}_schedule")
    call(
        Name="one",
        GroupName=scheduler.group,
        ScheduleExpression=expression,
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": arn, "RoleArn": role, "Input": json.dumps(given)},
    )


def at(**ahead):
    return f"at({datetime.now(UTC) + timedelta(**ahead):%Y-%m-%dT%H:%M:%S})"


def exists(sagemaker, name):
    listed = sagemaker.list_endpoints(NameContains=name)["Endpoints"]
    return bool(listed)


def test_a_schedule_deletes_an_endpoint_at_its_moment_on_the_emulators_clock(
    clients, aws, scheduler, role
):
    sagemaker = clients.get("sagemaker", REGION)
    name = create_endpoint(clients)
    put(scheduler, role, at(hours=2), EndpointName=name)
    aws.clock.skip(3_600)
    time.sleep(1)
    assert exists(sagemaker, name)
    # Renewed: by the caller's clock, which the emulator's has left behind.
    put(scheduler, role, at(hours=2), change="update", EndpointName=name)
    aws.clock.skip(3_660)
    time.sleep(1)
    assert exists(sagemaker, name)
    aws.clock.skip(3_600)
    wait_until(lambda: not exists(sagemaker, name))
    assert aws.schedules.failed == []


def test_a_role_that_does_not_trust_the_service_carries_nothing_out(clients, aws, scheduler):
    sagemaker = clients.get("sagemaker", REGION)
    name = create_endpoint(clients)
    put(scheduler, f"arn:aws:iam::{ACCOUNT}:role/nobodys", at(seconds=0), EndpointName=name)
    wait_until(lambda: aws.schedules.failed)
    assert "cannot assume the role" in aws.schedules.failed[0]
    assert exists(sagemaker, name)
    sagemaker.delete_endpoint(EndpointName=name)


def test_a_refused_call_is_not_repeated(aws, scheduler, role):
    put(scheduler, role, at(seconds=0), EndpointName="there-is-none")
    wait_until(lambda: aws.schedules.failed)
    time.sleep(1.5)
    assert len(aws.schedules.failed) == 1
    assert "Could not find" in aws.schedules.failed[0]


def test_a_disabled_schedule_and_an_unknown_target_do_nothing(clients, aws, scheduler, role):
    put(scheduler, role, at(seconds=0), arn="arn:aws:sqs:us-east-1:1:queue")
    wait_until(lambda: aws.schedules.failed)
    assert "no target that is emulated" in aws.schedules.failed[0]
    scheduler.delete_schedule(Name="one", GroupName=scheduler.group)
    sagemaker = clients.get("sagemaker", REGION)
    name = create_endpoint(clients)
    scheduler.create_schedule(
        Name="one", GroupName=scheduler.group, ScheduleExpression=at(seconds=0),
        FlexibleTimeWindow={"Mode": "OFF"}, State="DISABLED",
        Target={"Arn": TARGET, "RoleArn": role, "Input": json.dumps({"EndpointName": name})},
    )  # fmt: skip
    time.sleep(1.2)
    assert exists(sagemaker, name)
    sagemaker.delete_endpoint(EndpointName=name)


def test_a_function_from_a_template_runs_at_a_rate_on_the_emulators_clock(
    clients, aws, scheduler, role, bucket_of_runs
):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("index.py", CODE)
    name = f"function-{uuid.uuid4().hex[:8]}"
    arn = clients.get("lambda", REGION).create_function(
        FunctionName=name,
        Runtime="python3.13",
        Role=role,
        Handler="index.handler",
        Code={"ZipFile": archive.getvalue()},
        Environment={"Variables": {"BUCKET": bucket_of_runs}},
    )["FunctionArn"]
    put(scheduler, role, "rate(5 minutes)", arn=arn)
    time.sleep(1.2)
    s3 = clients.get("s3", REGION)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket_of_runs)
    aws.clock.skip(301)
    wait_until(lambda: "Contents" in s3.list_objects_v2(Bucket=bucket_of_runs))
    ran = float(s3.get_object(Bucket=bucket_of_runs, Key="ran")["Body"].read())
    assert ran > time.time() + 300


@pytest.fixture
def bucket_of_runs(clients):
    name = f"runs-{uuid.uuid4().hex[:8]}"
    clients.get("s3", REGION).create_bucket(Bucket=name)
    return name
