import json

import boto3
import pytest
from botocore.validate import validate_parameters

from endpoint.core.generation import InvalidField
from endpoint.core.training_jobs import places
from endpoint.core.training_jobs.job import Job
from endpoint.core.training_jobs.request import create_training_job, job_json, read_job

ID = "abcdef012345"


def request(**changes):
    values = {
        "bucket": "b",
        "deployment": "main",
        "owner": "operator",
        "role": "arn:aws:iam::123456789012:role/x",
        "image": "image:1",
        "instance_type": "ml.g5.xlarge",
        "code": places.code("0" * 16),
        "job": places.job_channel(ID),
        "pictures": places.dataset("operator", ID),
        "weights": "models/sdxl/1/",
        "checkpoints": places.checkpoints(ID),
        "output": places.output(ID),
        "max_runtime": 1_800,
        "max_wait": 5_400,
    }
    return create_training_job(places.sagemaker_name("main", ID, 1), **values | changes)


@pytest.mark.parametrize("changes", [{}, {"max_wait": None}, {"class_pictures": "datasets/x/"}])
def test_botocore_accepts_the_request(changes):
    shape = (
        boto3.client("sagemaker", region_name="us-east-1")
        .meta.service_model.operation_model("CreateTrainingJob")
        .input_shape
    )

    validate_parameters(request(**changes), shape)


def test_a_spot_job_waits_and_one_on_demand_does_not():
    assert request()["StoppingCondition"] == {
        "MaxRuntimeInSeconds": 1_800,
        "MaxWaitTimeInSeconds": 5_400,
    }
    assert request()["EnableManagedSpotTraining"] is True
    assert request(max_wait=None)["StoppingCondition"] == {"MaxRuntimeInSeconds": 1_800}
    assert request(max_wait=None)["EnableManagedSpotTraining"] is False


def test_each_channel_is_one_prefix_of_the_bucket():
    channels = {
        one["ChannelName"]: one["DataSource"]["S3DataSource"]["S3Uri"]
        for one in request(class_pictures="datasets/c/")["InputDataConfig"]
    }

    assert channels == {
        "code": f"s3://b/training/code/{'0' * 16}/",
        "job": f"s3://b/training/jobs/{ID}/job/",
        "pictures": f"s3://b/datasets/operator/{ID}/",
        "model": "s3://b/models/sdxl/1/",
        "class": "s3://b/datasets/c/",
    }


def test_the_container_has_no_network_and_no_hyperparameters():
    assert request()["EnableNetworkIsolation"] is True
    assert "HyperParameters" not in request()
    assert request()["AlgorithmSpecification"]["ContainerEntrypoint"] == [
        "python3",
        "-m",
        "training",
    ]


@pytest.mark.parametrize("field", ["version", "usd_per_hour"])
def test_a_person_does_not_set_what_easel_sets(field):
    with pytest.raises(InvalidField, match=f"{field}: is not a field that can be set"):
        read_job({"name": "x", field: 1})


def test_pictures_of_the_class_must_be_there():
    data = {"name": "x", "preserve": "pictures"}

    with pytest.raises(InvalidField, match="preserve: pictures needs"):
        read_job(data)
    assert read_job(data, has_class_pictures=True).preserve == "pictures"


def test_the_file_of_a_job_is_read_back():
    job = read_job({"name": "x", "trigger": "wtrclr 漢字 $(id)"})
    content = job_json(job, steps=500, usd_per_hour=0.5)

    written = Job.from_dict(json.loads(content))
    assert (written.steps, written.usd_per_hour, written.trigger) == (500, 0.5, job.trigger)
