from __future__ import annotations

import json

from endpoint import delete_endpoint
from tests.endpoint.doubles import BUCKET, create, names
from tests.endpoint.world import contents


def test_deleting_leaves_an_empty_account(world, capsys):
    assert create(world) == 0
    assert create(world, model="sdxl") == 0
    assert world.run(delete_endpoint.main, "--yes") == 0
    assert contents(world) == []
    assert "nothing costs anything" in capsys.readouterr().out


def test_alarms_and_scaling_go_before_the_endpoint_and_it_before_its_configuration(world):
    assert create(world, model="sdxl") == 0
    first = len(world.calls)
    assert world.run(delete_endpoint.main, "--yes") == 0
    order = [
        "cloudwatch.DeleteAlarms",
        "application-autoscaling.DeleteScalingPolicy",
        "application-autoscaling.DeregisterScalableTarget",
        "sagemaker.DeleteEndpoint",
        "sagemaker.DeleteEndpointConfig",
        "sagemaker.DeleteModel",
        "s3.DeleteObjects",
        "cloudformation.DeleteStack",
    ]
    made = world.calls[first:]
    assert sorted(order, key=made.index) == order


def test_deleting_nothing_succeeds(world):
    assert world.run(delete_endpoint.main, "--yes") == 0


def test_another_deployment_is_left_alone(world):
    assert create(world) == 0
    assert create(world, "--name", "mainly") == 0
    assert world.run(delete_endpoint.main, "--yes") == 0
    left = contents(world)
    assert any("easel-mainly-sd" in line for line in left)
    assert not any("easel-main-" in line for line in left)


def test_one_model_can_be_deleted_and_one_with_a_longer_name_kept(world):
    assert create(world) == 0
    assert create(world, model="sd-turbo") == 0
    assert world.run(delete_endpoint.main, "--model", "sd", "--yes") == 0
    assert names(world, "Endpoint") == ["easel-main-sd-turbo"]
    keys = world.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    assert {item["Key"].split("/")[1] for item in keys} == {"sd-turbo"}
    assert len(names(world, "Model")) == 1


def test_an_endpoint_that_is_being_created_is_waited_for_and_deleted(world):
    assert create(world) == 0
    client = world.client("sagemaker")
    config = client.list_endpoint_configs()["EndpointConfigs"][0]["EndpointConfigName"]
    world.session.client("sagemaker").create_endpoint(
        EndpointName="easel-main-other", EndpointConfigName=config
    )
    assert world.run(delete_endpoint.main, "--yes") == 0
    assert contents(world) == []


def test_unfinished_uploads_are_removed_with_the_bucket(world):
    assert create(world) == 0
    world.client("s3").create_multipart_upload(Bucket=BUCKET, Key="models/sd/x/unet.safetensors")
    assert world.run(delete_endpoint.main, "--yes") == 0
    assert contents(world) == []


def test_a_failed_deletion_is_reported_with_its_price_and_exit_code_one(world, capsys):
    assert create(world) == 0
    world.fail(
        "DeleteEndpoint", "AccessDeniedException", "not authorized: sagemaker:DeleteEndpoint"
    )
    capsys.readouterr()
    assert world.run(delete_endpoint.main, "--yes", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert "sagemaker:DeleteEndpoint" in report["error"]["message"]
    assert report["left"][0]["name"] == "easel-main-sd"
    assert report["left"][0]["costs"]


def test_a_remaining_resource_makes_the_exit_code_one(world, capsys):
    assert create(world) == 0
    group = "/aws/sagemaker/Endpoints/easel-main-late"
    # SageMaker writes a last line to the log after everything is deleted.
    late = world._after_delete_stack

    def write(*arguments):
        late(*arguments)
        world.client("logs").create_log_group(logGroupName=group)

    world._after_delete_stack = write
    assert world.run(delete_endpoint.main, "--yes") == 1
    assert f"log group {group}" in capsys.readouterr().out
    world._after_delete_stack = late
    assert world.run(delete_endpoint.main, "--yes") == 0
    assert contents(world) == []


def test_a_picture_that_arrives_late_does_not_prevent_deleting_the_bucket(world):
    assert create(world) == 0
    asked = []

    def late_picture(params):
        # The first deletion fails as CloudFormation's does for a bucket that is not empty.
        asked.append(params)
        if len(asked) == 1:
            world.client("s3").put_object(Bucket=BUCKET, Key="jobs/late.out", Body=b"x")
            world.stack_status = "DELETE_FAILED"
            from tests.endpoint.world import aws_response

            return aws_response({})
        return None

    world._before_delete_stack = late_picture
    assert world.run(delete_endpoint.main, "--yes") == 0
    assert len(asked) == 2
    assert contents(world) == []


def test_a_dry_run_deletes_nothing(world, capsys):
    assert create(world) == 0
    before = contents(world)
    assert world.run(delete_endpoint.main, "--dry-run") == 0
    assert "would call sagemaker.DeleteEndpoint " in capsys.readouterr().err
    assert contents(world) == before
