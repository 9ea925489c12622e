"""The image of one's own: from the sources to a digest, and whatever can go wrong in between."""

from __future__ import annotations

import io
import json
import re
import zipfile

import pytest

from endpoint import create_endpoint, delete_endpoint
from endpoint.commands import build_image, destroy, doctor, start, status, stop
from endpoint.emulator.moto_ import codebuild
from endpoint.provision.serving import image_source
from tests.conftest import ALL
from tests.endpoint.doubles import interrupted_build, names, put_image
from tests.endpoint.world import ACCOUNT, REGION, Crash, contents, empty_account

BUCKET = f"easel-main-{ACCOUNT}-{REGION}-src"
PROJECT = "easel-main-image"
OCI = "application/vnd.oci.image.manifest.v1+json"
URI = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/easel-main"


@pytest.fixture(autouse=True)
def sources(tmp_path, monkeypatch):
    """Sources of two files, in the repository's place."""
    folder = tmp_path / "model_package"
    (folder / "server").mkdir(parents=True)
    (folder / "server" / "buildspec.yml").write_text("version: 0.2\n")
    (folder / "server" / "Dockerfile").write_text("FROM scratch\n")
    monkeypatch.setattr(image_source, "FOLDER", folder)
    return folder


def build(world, *more):
    return world.run(build_image.main, "--yes", *more)


def images(world):
    return world.client("ecr").describe_images(repositoryName="easel-main")["imageDetails"]


def builds(world):
    client = world.client("codebuild")
    ids = client.list_builds_for_project(projectName=PROJECT)["ids"]
    return client.batch_get_builds(ids=ids)["builds"] if ids else []


def test_an_image_is_built_from_exactly_the_uploaded_version(world, capsys):
    assert build(world, "--json") == 0
    result, error = json.loads((captured := capsys.readouterr()).out), captured.err
    (image,) = images(world)
    assert image["imageTags"] == [result["tag"]] == [image_source.read().tag]
    assert result["image"] == f"{URI}@{image['imageDigest']}"
    stored = world.client("s3").head_object(Bucket=BUCKET, Key=image_source.KEY)
    assert [each["sourceVersion"] for each in builds(world)] == [stored["VersionId"]]
    # Before the question, while it runs, and at the end.
    assert "takes about 10 minutes and costs about 0.20 USD" in error
    assert "Phase complete: BUILD State: SUCCEEDED" in error
    assert "0.10 USD so far" in error
    assert "the build cost about 0.18 USD" in error
    assert world.seconds >= 540


def test_an_image_that_exists_is_not_built_again(world, capsys):
    assert build(world) == 0
    before = len(world.calls)
    assert build(world) == 0
    assert "nothing was built" in capsys.readouterr().out
    assert set(world.calls[before:]) == {"sts.GetCallerIdentity", "ecr.BatchGetImage"}
    assert len(builds(world)) == 1


def test_other_sources_make_another_image(world, sources):
    assert build(world) == 0
    (sources / "server" / "Dockerfile").write_text("FROM debian\n")
    assert build(world) == 0
    assert len(images(world)) == 2


def test_nothing_is_built_without_consent(world, capsys):
    assert world.run(build_image.main) == 1
    assert "--yes" in capsys.readouterr().err
    assert contents(world) == []


def test_a_dry_run_prints_the_calls_and_builds_nothing(world, capsys):
    assert build(world, "--dry-run") == 0
    printed = capsys.readouterr().err
    for call in ("cloudformation.CreateStack", "s3.PutObject", "codebuild.StartBuild"):
        assert f"would call {call}" in printed
    assert re.search(r'"Body": "<\d+ bytes>"', printed)
    assert contents(world) == []


def test_a_failed_build_shows_its_last_lines_and_what_is_left(world, capsys):
    world.builds.fails_with = "Error while executing command: docker buildx build. exit status 17"
    assert build(world) == 1
    error = capsys.readouterr().err
    assert "ended as failed: Error while executing command" in error
    assert "The last lines of its log:" in error
    assert "It cost about 0.18 USD" in error
    assert "image repository easel-main" in error
    assert "USD per hour; `python -m endpoint delete` removes them." in error
    # The same sources again: the rule starts nothing, because nothing is uploaded.
    world.builds.fails_with = None
    assert build(world) == 0
    assert len(builds(world)) == 2


def test_an_image_with_an_oci_manifest_is_refused(world, capsys):
    world.builds.media_type = OCI
    assert build(world) == 1
    error = capsys.readouterr().err
    assert OCI in error
    assert "batch-delete-image" in error


def test_ctrl_c_stops_the_build(world, capsys):
    assert interrupted_build(world) == 130
    assert [each["buildStatus"] for each in builds(world)] == ["STOPPED"]
    assert "is stopped; it cost about 0.0" in capsys.readouterr().err
    assert images(world) == []
    assert build(world) == 0


def test_a_build_that_runs_is_found_again(world, capsys):
    world.fail("BatchGetBuilds", "InternalFailure", after=3, times=1)
    assert build(world) == 1
    error = capsys.readouterr().err
    assert f"image build {PROJECT}:" in error
    assert "1.200 USD per hour" in error
    assert build(world) == 0
    assert len(builds(world)) == 1


def test_another_image_of_the_same_repository_is_deployed_as_it_is(world, serving_code):
    assert build(world) == 0
    put_image(world, "easel-main", "b" * 40)
    uri = f"{URI}:{'b' * 40}"
    assert world.run(create_endpoint.main, "--yes", "--image", uri) == 0
    assert _served(world) == uri
    assert len(builds(world)) == 1


def test_a_rule_that_is_late_costs_no_second_build(world, capsys):
    assert build(world) == 0
    world.client("events").disable_rule(Name=PROJECT)
    (image_source.FOLDER / "server" / "Dockerfile").write_text("FROM debian\n")
    sleep = world.sleep

    def late(seconds):
        sleep(seconds)
        if len(builds(world)) == 2 and world.seconds > 700:
            world.client("codebuild").start_build(
                projectName=PROJECT, sourceVersion=builds(world)[0]["sourceVersion"]
            )

    world.sleep = late
    assert build(world) == 0
    states = sorted(each["buildStatus"] for each in builds(world))
    assert states == ["STOPPED", "SUCCEEDED", "SUCCEEDED"]


def test_after_ctrl_c_a_late_event_of_the_rule_builds_nothing(world):
    assert interrupted_build(world) == 130
    versions = world.client("s3").list_object_versions(Bucket=BUCKET)
    assert "Versions" not in versions


def test_an_image_that_has_expired_is_not_started(world, serving_code, capsys):
    assert world.run(create_endpoint.main, "--yes") == 0
    assert world.run(stop.main, "--yes") == 0
    digest = {"imageDigest": images(world)[0]["imageDigest"]}
    world.client("ecr").batch_delete_image(repositoryName="easel-main", imageIds=[digest])
    assert world.run(start.main, "--yes") == 1
    assert "keeps the last ten images" in capsys.readouterr().err
    assert names(world, "Endpoint") == []


def test_a_rule_that_starts_nothing_is_not_waited_for_long(world):
    assert build(world) == 0
    world.client("events").disable_rule(Name=PROJECT)
    (image_source.FOLDER / "server" / "Dockerfile").write_text("FROM debian\n")
    assert build(world) == 0
    assert len(builds(world)) == 2


def test_a_change_of_the_sources_builds_by_itself(world):
    assert build(world) == 0
    (image_source.FOLDER / "server" / "Dockerfile").write_text("FROM debian\n")
    source = image_source.read()
    stored = world.client("s3").put_object(Bucket=BUCKET, Key=image_source.KEY, Body=source.archive)
    newest, _ = sorted(builds(world), key=lambda each: each["startTime"], reverse=True)
    assert newest["sourceVersion"] == stored["VersionId"]
    world.sleep(600)
    assert source.tag in [tag for image in images(world) for tag in image["imageTags"]]
    # Other objects of the bucket build nothing.
    world.client("s3").put_object(Bucket=BUCKET, Key="image/other.zip", Body=b"")
    assert len(builds(world)) == 2


def test_an_image_that_another_program_tagged_with_the_commit_is_used(world, monkeypatch, capsys):
    monkeypatch.setattr(image_source, "_commit", lambda _: "a" * 40)
    assert build(world) == 0
    assert images(world)[0]["imageTags"] == [image_source.read().tag, "a" * 40]
    world.client("ecr").batch_delete_image(
        repositoryName="easel-main", imageIds=[{"imageTag": image_source.read().tag}]
    )
    assert build(world) == 0
    assert len(builds(world)) == 1


def test_a_build_that_succeeds_without_an_image_is_a_failure(world, capsys, monkeypatch):
    monkeypatch.setattr(codebuild._Build, "_push", lambda _: None)
    assert build(world) == 1
    assert f"The build succeeded, but {URI}" in capsys.readouterr().err


def test_no_image_can_be_built_where_there_is_no_codebuild(world, capsys, monkeypatch):
    monkeypatch.setattr("endpoint.provision.serving.own_image.REGIONS_WITHOUT_BUILDS", {REGION})
    assert build(world) == 1
    assert "--image aws" in capsys.readouterr().err
    assert contents(world) == []


def test_somebody_elses_stack_is_left_alone(world, capsys):
    world.client("cloudformation").create_stack(
        StackName="easel-main", TemplateBody='{"Resources": {"A": {"Type": "AWS::SNS::Topic"}}}'
    )
    assert build(world) == 1
    assert "is not Easel's" in capsys.readouterr().err
    assert "s3.PutObject" not in world.calls


# --- Deployments -------------------------------------------------------------------------------


def _served(world):
    (model,) = names(world, "Model")
    client = world.client("sagemaker")
    return client.describe_model(ModelName=model)["PrimaryContainer"]["Image"]


def test_the_first_endpoint_builds_the_image_once_and_pins_its_digest(world, serving_code, capsys):
    arguments = ("--yes", "--weights", "fetch", "--model")
    assert world.run(create_endpoint.main, *arguments, "sd") == 0
    assert "takes about 10 minutes and costs about 0.20 USD" in capsys.readouterr().err
    assert _served(world) == f"{URI}@{images(world)[0]['imageDigest']}"
    (config,) = names(world, "EndpointConfig")
    described = world.client("sagemaker").describe_endpoint_config(EndpointConfigName=config)
    (variant,) = described["ProductionVariants"]
    assert variant["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"
    (stack,) = world.client("cloudformation").describe_stacks()["Stacks"]
    parameters = {item["ParameterKey"]: item["ParameterValue"] for item in stack["Parameters"]}
    assert parameters["ImageRepositoryArns"].endswith(":repository/easel-main")
    assert world.run(create_endpoint.main, *arguments, "sd-turbo") == 0
    assert "takes about 10 minutes" not in capsys.readouterr().err
    assert len(builds(world)) == 1


def test_no_endpoint_is_created_when_the_build_fails(world, serving_code, capsys):
    world.builds.fails_with = "exit status 1"
    assert world.run(create_endpoint.main, "--yes") == 1
    assert "exit status 1" in capsys.readouterr().err
    assert names(world, "Endpoint") == names(world, "Model") == []


def test_sagemaker_refuses_an_image_that_is_missing_or_has_an_oci_manifest(world, serving_code):
    world.client("ecr").create_repository(repositoryName="mine")
    put_image(world, "mine", "oci", OCI)
    own = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mine"
    role = f"arn:aws:iam::{ACCOUNT}:role/x"
    for tag, words in (("oci", "Unsupported manifest media type"), ("no", "not found")):
        with pytest.raises(Exception, match=words):
            world.client("sagemaker").create_model(
                ModelName="x", ExecutionRoleArn=role, PrimaryContainer={"Image": f"{own}:{tag}"}
            )


def _image_check(world, capsys, *more, code=0):
    capsys.readouterr()
    assert world.run(doctor.main, "--json", *more) == code
    checks = json.loads(capsys.readouterr().out)["checks"]
    return next(check for check in checks if check["subject"] == "image")


def test_the_doctor_says_that_the_image_will_be_built_and_checks_the_one_that_exists(
    world, capsys, monkeypatch
):
    monkeypatch.setattr("endpoint.provision.checks.ask_the_hub", lambda _: {"gated": False})
    check = _image_check(world, capsys)
    assert "does not exist yet" in check["finding"]
    assert "0.20 USD" in check["advice"]
    world.builds.media_type = OCI
    assert build(world) == 1
    assert OCI in _image_check(world, capsys, code=1)["finding"]
    own = ("--image", f"{URI}:{image_source.read().tag}")
    assert OCI in _image_check(world, capsys, *own, code=1)["finding"]


def test_the_status_shows_a_running_build_and_the_images(world, capsys):
    assert build(world) == 0
    (image_source.FOLDER / "server" / "Dockerfile").write_text("FROM debian\n")
    source = image_source.read()
    world.client("s3").put_object(Bucket=BUCKET, Key=image_source.KEY, Body=source.archive)
    world.sleep(90)
    capsys.readouterr()
    assert world.run(status.main, "--json") == 0
    found = {item["kind"]: item for item in json.loads(capsys.readouterr().out)["things"]}
    assert found["image build"]["usd_per_hour"] == 1.2
    assert found["image build"]["usd_so_far"] == 0.04
    assert "1 image, at most 3.50 GB" in found["image repository"]["remark"]
    month = found["image repository"]["usd_per_hour"] * 730
    assert month == pytest.approx(0.326, abs=0.001)


@pytest.mark.parametrize("script", [destroy, delete_endpoint])
def test_a_deletion_stops_builds_and_leaves_nothing(world, script):
    assert build(world) == 0
    for number in range(2):
        (image_source.FOLDER / "server" / "Dockerfile").write_text(f"FROM debian:{number}\n")
        source = image_source.read()
        world.client("s3").put_object(Bucket=BUCKET, Key=image_source.KEY, Body=source.archive)
    assert world.run(script.main, "--yes") == 0
    assert contents(world) == []


def test_the_repository_and_the_project_of_others_are_left_alone(world, capsys):
    world.client("ecr").create_repository(repositoryName="easel-main")
    world.client("events").put_rule(Name=PROJECT, EventPattern='{"source": ["x"]}')
    assert world.run(destroy.main, "--yes") == 0
    assert "Left alone" in capsys.readouterr().err
    assert len(contents(world)) == 2


def test_what_somebody_else_put_next_to_the_sources_is_kept(world, capsys):
    assert build(world) == 0
    world.client("s3").put_object(Bucket=BUCKET, Key="mine.txt", Body=b"mine")
    assert world.run(destroy.main, "--yes") == 1
    assert f"s3://{BUCKET}/mine.txt" in capsys.readouterr().out
    world.client("s3").delete_object(Bucket=BUCKET, Key="mine.txt")
    assert world.run(destroy.main, "--yes") == 0
    assert contents(world) == []


# --- Crashes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calls():
    """The numbers of the calls of a build that change something or come after a pause."""
    with pytest.MonkeyPatch.context() as patch, empty_account() as world:
        world.builds.seconds = 60
        patch.setattr(image_source, "read", _source)
        assert build(world) == 0
        return world.changes


def _source(_folder=None):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("image.env", "TAG=a\nCOMMIT=\n")
    return image_source.Source(packed.getvalue(), "a", None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "first"), [("before", 0), ("after", 0), ("refused", 0), ("interrupted", 1)]
)
def test_whatever_happens_at_a_call_nothing_runs_that_is_not_named(
    calls, kind, first, monkeypatch, capsys
):
    """With `--all` at each call; else each kind at every second."""
    monkeypatch.setattr(image_source, "read", _source)
    for call in calls if ALL else calls[first::2]:
        with empty_account() as world:
            world.builds.seconds = 60
            world.trouble_at(call, kind)
            code = None
            try:
                code = build(world)
            except Crash:
                world.revive()
            said = capsys.readouterr().err
            at = f"{kind} {call}: {world.calls[-1]} {said}"
            running = world.run(status.main, "--json") == 0 and capsys.readouterr().out
            names_ = [
                i["name"] for i in json.loads(running)["things"] if i["kind"] == "image build"
            ]
            if code is not None:
                assert code in {0, 1, 130}, at
                assert all(name in said for name in names_), at
            if code == 130:
                assert names_ == [], at
            assert build(world) == 0, at
            assert len(images(world)) == 1, at
            assert world.run(destroy.main, "--yes") == 0, at
            assert contents(world) == [], at
