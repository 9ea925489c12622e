"""Builds over the wire, with the emulator's faults and its clock."""

from __future__ import annotations

import io
import uuid
import zipfile

import pytest
from botocore.exceptions import ClientError

from endpoint.emulator.sagemaker.faults import Fault
from tests.endpoint.emulator.doubles import BUCKET, REGION

ACCOUNT = "123456789012"


@pytest.fixture
def project(clients, s3):
    """A project whose sources are in S3, a repository to push to, and a log group."""
    name = f"images-{uuid.uuid4().hex[:8]}"
    clients.get("ecr", REGION).create_repository(repositoryName=name)
    clients.get("logs", REGION).create_log_group(logGroupName=f"/aws/codebuild/{name}")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("image.env", "TAG=one\nCOMMIT=two\n")
    s3.put_object(Bucket=BUCKET, Key=f"{name}.zip", Body=packed.getvalue())
    clients.get("codebuild", REGION).create_project(
        name=name,
        source={"type": "S3", "location": f"{BUCKET}/{name}.zip"},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/amazonlinux-x86_64-standard:5.0",
            "computeType": "BUILD_GENERAL1_LARGE",
            "environmentVariables": [{"name": "REPOSITORY", "value": f"{ACCOUNT}.dkr/{name}"}],
        },
        serviceRole=f"arn:aws:iam::{ACCOUNT}:role/build",
    )
    return name


@pytest.fixture
def codebuild(clients):
    return clients.get("codebuild", REGION)


def described(codebuild, build):
    (found,) = codebuild.batch_get_builds(ids=[build["id"]])["builds"]
    return found


def tags(clients, name):
    images = clients.get("ecr", REGION).describe_images(repositoryName=name)["imageDetails"]
    return [(image["imageTags"], image["imageManifestMediaType"]) for image in images]


def test_a_build_pushes_what_its_sources_name(clients, codebuild, project):
    build = codebuild.start_build(projectName=project)["build"]
    assert described(codebuild, build)["buildStatus"] == "SUCCEEDED"
    ((names, media_type),) = tags(clients, project)
    assert names == ["one", "two"]
    assert media_type == "application/vnd.docker.distribution.manifest.v2+json"
    logs = described(codebuild, build)["logs"]
    place = {"logGroupName": logs["groupName"], "logStreamName": logs["streamName"]}
    events = clients.get("logs", REGION).get_log_events(**place)["events"]
    assert "Phase complete: BUILD State: SUCCEEDED" in events[6]["message"]
    # The same again pushes nothing.
    codebuild.start_build(projectName=project)
    assert len(tags(clients, project)) == 1


def test_a_build_takes_its_time_and_can_be_stopped(clients, codebuild, switches, project):
    switches.set_faults(project, Fault("slow-build", seconds=600))
    slow = codebuild.start_build(projectName=project)["build"]
    switches.set_clock(skip=60)
    running = described(codebuild, slow)
    assert (running["buildStatus"], running["currentPhase"]) == ("IN_PROGRESS", "BUILD")
    assert codebuild.stop_build(id=slow["id"])["build"]["buildStatus"] == "STOPPED"
    switches.set_clock(skip=600)
    assert described(codebuild, slow)["buildStatus"] == "STOPPED"
    assert tags(clients, project) == []
    assert codebuild.list_builds_for_project(projectName=project)["ids"] == [slow["id"]]


def test_a_build_fails_on_demand(clients, codebuild, switches, project):
    fault = Fault("failed-build", message="no space left on device", times=1)
    switches.set_faults(project, fault)
    failed = described(codebuild, codebuild.start_build(projectName=project)["build"])
    assert failed["buildStatus"] == "FAILED"
    assert failed["phases"][-1]["contexts"][0]["message"] == "no space left on device"
    assert tags(clients, project) == []
    codebuild.start_build(projectName=project)
    assert len(tags(clients, project)) == 1


def test_sources_that_do_not_exist_fail_where_they_are_downloaded(codebuild, project):
    build = codebuild.start_build(projectName=project, sourceVersion="none")["build"]
    failed = described(codebuild, build)
    assert failed["phases"][-1]["phaseType"] == "DOWNLOAD_SOURCE"
    assert failed["buildStatus"] == "FAILED"


def test_create_model_refuses_an_oci_manifest_and_an_image_that_does_not_exist(
    clients, codebuild, switches, project
):
    switches.set_faults(project, Fault("oci-image"))
    codebuild.start_build(projectName=project)
    sagemaker = clients.get("sagemaker", REGION)
    for tag, words in (("one", "Unsupported manifest media type"), ("three", "not found")):
        image = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{project}:{tag}"
        with pytest.raises(ClientError, match=words):
            sagemaker.create_model(
                ModelName=project,
                ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/x",
                PrimaryContainer={"Image": image},
            )
