"""The emulated account: one real-time and one asynchronous endpoint, and the bucket of the jobs."""

from __future__ import annotations

from pathlib import Path

from endpoint.emulator.process.clients import Clients

REGION = "us-east-1"
# Named as in a deployment, whose roles' policies are enforced.
ENDPOINT = "easel-main-sd"
ASYNC_ENDPOINT = "easel-main-sdxl"
MISSING_ENDPOINT = "easel-main-gone"
BUCKET = "easel-main-123456789012-us-east-1"
QUEUE = {"endpoint": ASYNC_ENDPOINT, "jobs": f"s3://{BUCKET}/jobs/"}
# A model whose pictures the gateway stores.
STORED_ENDPOINT = "easel-main-stored"
STORED = {"endpoint": STORED_ENDPOINT, "pictures": f"s3://{BUCKET}/pictures/stored/"}
# For each of the two places where pictures are stored.
MOST_WAITING = 4
# Pictures above the model server's own limit of 6.5 MB, as `create_endpoint` allows them.
LARGE = {"MMS_MAX_RESPONSE_SIZE": "104857600"}
# Paints at once; the real model has its tests in test_run.py.
SERVING_CODE = Path(__file__).parent / "serving_code"


def create_async_endpoint(clients: Clients, name: str) -> None:
    """Make an asynchronous endpoint that keeps its jobs in a bucket of its own."""
    clients.get("s3", REGION).create_bucket(Bucket=BUCKET)
    sagemaker = clients.get("sagemaker", REGION)
    sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn="arn:aws:iam::123456789012:role/easel",
        PrimaryContainer={"Image": "emulated"},
    )
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InstanceType": "ml.g5.xlarge",
        "InitialInstanceCount": 1,
    }
    output = {
        "S3OutputPath": f"s3://{BUCKET}/jobs/outputs/",
        "S3FailurePath": f"s3://{BUCKET}/jobs/failures/",
    }
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[variant],
        AsyncInferenceConfig={"OutputConfig": output},
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)


def scale(sagemaker, instances):
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=ASYNC_ENDPOINT,
        DesiredWeightsAndCapacities=[
            {"VariantName": "AllTraffic", "DesiredInstanceCount": instances}
        ],
    )
