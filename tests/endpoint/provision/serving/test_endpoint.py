"""Creating an endpoint: what SageMaker and the other services receive."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from endpoint import create_endpoint
from endpoint.aws.scaling import alarm_name
from endpoint.catalogue import models
from endpoint.provision.files import payload, weights
from endpoint.provision.serving import pins
from endpoint.provision.serving.definitions import container_environment
from tests.endpoint.doubles import BUCKET, create, names, only_config
from tests.endpoint.world import IMAGE, contents
from tests.model_folders import write_file

AWS = "763104351884.dkr.ecr.us-east-1.amazonaws.com"


def container_of(world, endpoint):
    client = world.client("sagemaker")
    config = client.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    description = client.describe_endpoint_config(EndpointConfigName=config)
    model = description["ProductionVariants"][0]["ModelName"]
    return client.describe_model(ModelName=model)["PrimaryContainer"]


def test_the_containers_environment_has_its_settings_and_no_secret(world, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert create(world) == 0
    container = container_of(world, "easel-main-sd")
    environment = container["Environment"]
    assert environment["SAGEMAKER_PROGRAM"] == "inference.py"
    assert environment["SAGEMAKER_MODEL_SERVER_WORKERS"] == "1"
    assert environment["EASEL_MODEL_ID"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert len(environment["EASEL_MODEL_REVISION"]) == 40
    assert json.loads(environment["EASEL_DEFAULTS"])["steps"] == 25
    assert "HF_MODEL_ID" not in environment
    assert "hf_secret" not in json.dumps(container)
    source = container["ModelDataSource"]["S3DataSource"]
    assert source["S3Uri"].startswith(f"s3://{BUCKET}/models/sd/")
    assert source["S3Uri"].endswith("/")
    assert source["CompressionType"] == "None"


def test_a_quantised_model_says_so_to_its_container(world, capsys):
    assert create(world, "--quantise", "fp8") == 0
    assert container_of(world, "easel-main-sd")["Environment"]["EASEL_QUANTISE"] == "fp8"
    assert "Memory on ml.g4dn.xlarge: 2.8 of 16 GB: fits." in capsys.readouterr().err


def test_a_file_of_a_quantised_denoiser_is_named_with_its_commit(world):
    assert create(world, "--quantise", "gguf", model="flux2-klein") == 0
    environment = container_of(world, "easel-main-flux2-klein")["Environment"]
    file = models.read()["flux2-klein"].quantised["gguf"]
    assert environment["EASEL_QUANTISED_ID"] == file.name
    assert environment["EASEL_QUANTISED_REVISION"] == file.revision
    assert environment["EASEL_QUANTISED_FILE"] == "flux-2-klein-4b-Q8_0.gguf"
    assert "DIFFUSERS_TRUST_REMOTE_KERNELS" not in environment


def test_a_model_of_few_steps_names_its_adapter_and_its_sampler(world):
    assert create(world, model="sdxl-lightning") == 0
    environment = container_of(world, "easel-main-sdxl-lightning")["Environment"]
    assert environment["EASEL_MERGED_LORA_ID"] == "ByteDance/SDXL-Lightning"
    assert environment["EASEL_MERGED_LORA_FILE"] == "sdxl_lightning_4step_lora.safetensors"
    assert environment["EASEL_SAMPLER"] == "euler-trailing"
    assert "EASEL_QUANTISE" not in environment


def test_a_model_that_is_not_pinned_keeps_the_commit_of_its_first_create(world, monkeypatch):
    commits = iter(["1" * 40, "2" * 40])
    monkeypatch.setattr(pins, "newest_commit", lambda _: next(commits))
    for _ in range(2):
        assert create(world, "--log-prompts", model="flux3-klein") == 0
        environment = container_of(world, "easel-main-flux3-klein")["Environment"]
        assert environment["EASEL_MODEL_REVISION"] == "1" * 40


def test_without_the_hub_a_model_that_is_not_pinned_cannot_be_created(world, capsys, monkeypatch):
    def no_network(_):
        raise OSError("no route to host")

    monkeypatch.setattr(pins, "newest_commit", no_network)
    assert create(world, model="flux3-klein") == 1
    assert "The commit of black-forest-labs/flux-3-image-klein is not known" in (
        capsys.readouterr().err
    )
    assert contents(world) == []


def test_a_recorded_commit_is_kept_where_the_weights_are_in_the_bucket():
    source = models.Repository("some/model", "1" * 40, recorded=True)
    model = models.Model("m", "M", source, {})
    variables = container_environment(model, weights_in_s3=True, log_prompts=False)
    assert variables["EASEL_MODEL_REVISION"] == "1" * 40
    pinned = replace(model, source=replace(source, recorded=False))
    assert "EASEL_MODEL_REVISION" not in container_environment(
        pinned, weights_in_s3=True, log_prompts=False
    )


def test_kernels_of_the_hub_are_trusted_for_the_quantisation_that_needs_them():
    model = replace(models.read()["flux2-klein"], quantise="nunchaku_lite")
    variables = container_environment(model, weights_in_s3=False, log_prompts=False)
    assert variables["DIFFUSERS_TRUST_REMOTE_KERNELS"] == "true"
    assert variables["EASEL_QUANTISED_REVISION"] == "main"
    stored = container_environment(model, weights_in_s3=True, log_prompts=False)
    assert stored["DIFFUSERS_TRUST_REMOTE_KERNELS"] == "true"
    # They are fetched although the weights are not.
    assert "HF_HUB_OFFLINE" not in stored
    plain = container_environment(models.read()["sd"], weights_in_s3=True, log_prompts=False)
    assert plain["HF_HUB_OFFLINE"] == "1"


def test_kernels_of_the_hub_are_refused_in_a_private_network(world, capsys):
    options = ("--quantise", "nunchaku_lite", "--weights", "s3", "--private-network")
    assert create(world, *options, model="flux2-klein") == 2
    assert "nunchaku_lite loads its kernels from the hub" in capsys.readouterr().err
    assert names(world, "Model") == []


def test_the_serving_code_is_stored_below_code_in_the_bucket(world):
    assert create(world) == 0
    stored = world.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="models/")
    keys = [item["Key"] for item in stored["Contents"]]
    assert [key.split("/", 3)[3] for key in keys] == ["code/generation.py", "code/inference.py"]


def test_the_ray_serve_image_gets_its_application_and_more_time(world):
    image = f"{AWS}/ray:serve-ml-sagemaker-cuda-v1.4"
    assert create(world, "--image", image) == 0
    stored = world.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="models/")
    places = {item["Key"].split("/", 3)[3] for item in stored["Contents"]}
    assert {"config.yaml", "deployment.py", "code/inference.py", "server/web/app.py"} <= places
    environment = container_of(world, "easel-main-sd")["Environment"]
    assert environment["RAYSERVE_BACKEND_TIMEOUT"] == "3600"
    (variant,) = only_config(world)["ProductionVariants"]
    assert variant["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-gpu-3-1"


def test_an_image_that_installs_packages_is_refused_in_a_private_network(world, capsys):
    image = f"{AWS}/ray:serve-ml-sagemaker-cuda-v1.4"
    assert create(world, "--image", image, "--private-network", "--weights", "s3") == 2
    assert "installs packages from PyPI" in capsys.readouterr().err
    assert names(world, "Model") == []


def test_several_instance_types_become_pools_in_order_of_preference(world):
    assert create(world) == 0
    variant = only_config(world)["ProductionVariants"][0]
    assert [pool["InstanceType"] for pool in variant["InstancePools"]] == [
        "ml.g4dn.xlarge",
        "ml.g6.xlarge",
        "ml.g5.xlarge",
    ]
    assert [pool["Priority"] for pool in variant["InstancePools"]] == [1, 2, 3]


def test_one_instance_type_makes_no_pool(world):
    assert create(world, "--instance-type", "ml.g6.xlarge") == 0
    variant = only_config(world)["ProductionVariants"][0]
    assert variant["InstanceType"] == "ml.g6.xlarge"
    assert "InstancePools" not in variant


def test_an_asynchronous_model_scales_to_zero_and_wakes_on_its_backlog(world):
    assert create(world, "--most-instances", "3", model="sdxl") == 0
    assert only_config(world)["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"] == (
        f"s3://{BUCKET}/jobs/sdxl/outputs"
    )
    scaling = world.client("application-autoscaling")
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 3)
    policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    by_type = {policy["PolicyType"]: policy for policy in policies}
    assert set(by_type) == {"TargetTrackingScaling", "StepScaling"}
    (alarm,) = world.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert alarm["AlarmName"] == alarm_name("easel-main-sdxl")
    assert alarm["MetricName"] == "HasBacklogWithoutCapacity"
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    assert alarm["Threshold"] == 1
    assert alarm["AlarmActions"] == [by_type["StepScaling"]["PolicyARN"]]


def test_other_instance_types_are_updated_without_scaling_and_scaled_again(world):
    assert create(world, model="sdxl") == 0
    assert create(world, "--instance-type", "ml.g6.xlarge", model="sdxl") == 0
    made = world.calls
    assert made.index("application-autoscaling.DeregisterScalableTarget") < made.index(
        "sagemaker.UpdateEndpoint"
    )
    scaling = world.client("application-autoscaling")
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert len(world.client("cloudwatch").describe_alarms()["MetricAlarms"]) == 1


def test_everything_that_can_carry_a_tag_carries_easels(world):
    assert create(world, model="sdxl") == 0
    client = world.client("sagemaker")
    arns = [item["EndpointArn"] for item in client.list_endpoints()["Endpoints"]]
    arns += [item["ModelArn"] for item in client.list_models()["Models"]]
    arns.append(only_config(world)["EndpointConfigArn"])
    for arn in arns:
        tags = client.list_tags(ResourceArn=arn)["Tags"]
        assert {"Key": "easel", "Value": "main"} in tags, arn
    (stack,) = world.client("cloudformation").describe_stacks()["Stacks"]
    assert {"Key": "easel", "Value": "main"} in stack["Tags"]
    groups = world.client("logs").describe_log_groups(logGroupNamePrefix="/aws/sagemaker")
    assert groups["logGroups"][0]["retentionInDays"] == 30


def test_creating_again_changes_nothing(world):
    assert create(world) == 0
    before = contents(world)
    count = len(world.calls)
    assert create(world) == 0
    assert contents(world) == before
    changed = {call for call in world.calls[count:] if ".Create" in call and "LogGroup" not in call}
    assert changed == set()


def test_two_deployments_exist_next_to_each_other(world):
    assert create(world) == 0
    assert create(world, "--name", "second") == 0
    assert sorted(names(world, "Endpoint")) == ["easel-main-sd", "easel-second-sd"]


def test_a_second_model_keeps_the_first(world):
    assert create(world) == 0
    assert create(world, model="sd-turbo") == 0
    assert len(names(world, "Model")) == 2


def test_the_container_looks_for_adapters_below_a_prefix_without_a_version(world, serving_code):
    assert create(world) == 0
    place = f"s3://{BUCKET}/loras/sd/"
    assert container_of(world, "easel-main-sd")["Environment"]["EASEL_LORAS_FROM"] == place
    # SageMaker copies nothing of it: a start does not wait for adapters.
    assert "AdditionalModelDataSources" not in container_of(world, "easel-main-sd")
    note = world.client("s3").get_object(Bucket=BUCKET, Key="loras/sd/README.txt")["Body"].read()
    assert b"at once" in note

    (serving_code / "generation.py").write_text("STEPS = 30\n")
    assert create(world) == 0
    assert container_of(world, "easel-main-sd")["Environment"]["EASEL_LORAS_FROM"] == place


def test_the_weights_of_an_asynchronous_model_come_by_way_of_s3(
    world, monkeypatch, tmp_path, capsys
):
    file = write_file(tmp_path / "unet" / "model.safetensors")
    gathered = [payload.File.read(file, "unet/model.safetensors")]
    monkeypatch.setattr(weights, "gather", lambda _model, _console: gathered)
    arguments = ("--model", "sdxl", "--image", IMAGE, "--yes")
    assert world.run(create_endpoint.main, *arguments) == 0
    (model,) = world.client("sagemaker").list_models()["Models"]
    made = world.client("sagemaker").describe_model(ModelName=model["ModelName"])
    environment = made["PrimaryContainer"]["Environment"]
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert "EASEL_MODEL_ID" not in environment
    assert "several GB, are downloaded to this machine" in capsys.readouterr().err


def test_a_dry_run_downloads_no_weights(world, monkeypatch):
    monkeypatch.setattr(weights, "gather", lambda *_: pytest.fail("downloads"))
    arguments = ("--model", "sdxl", "--image", IMAGE, "--dry-run")
    assert world.run(create_endpoint.main, *arguments) == 0


def test_the_weights_of_other_models_are_fetched_by_their_containers(world, monkeypatch, capsys):
    monkeypatch.setattr(weights, "gather", lambda *_: pytest.fail("downloads"))
    assert world.run(create_endpoint.main, "--image", IMAGE, "--yes") == 0
    assert "this machine" not in capsys.readouterr().err


def test_weights_that_cannot_be_read_here_are_fetched_by_the_container(world, monkeypatch, capsys):
    def no_network(*_):
        raise OSError("no route to host")

    monkeypatch.setattr(weights, "gather", no_network)
    arguments = ("--model", "sdxl", "--image", IMAGE, "--yes")
    assert world.run(create_endpoint.main, *arguments) == 0
    assert "The container will download the weights itself" in capsys.readouterr().err
    assert "EASEL_MODEL_ID" in container_of(world, "easel-main-sdxl")["Environment"]
    # What was asked for is not replaced.
    assert world.run(create_endpoint.main, *arguments, "--weights", "s3") == 1
