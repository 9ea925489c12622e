"""The emulated account: its endpoints, their leases, and the bucket of the deployment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from endpoint.core.leases import Lease, Scheduled
from endpoint.emulator.process.clients import Clients
from endpoint.emulator.run import create_endpoint
from tests.policies.role_policies import DEPLOYMENT

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
# Of the gateways that are open to everyone.
MODELS = {
    "sd": {"endpoint": ENDPOINT},
    "gone": {"endpoint": MISSING_ENDPOINT},
    "sdxl": {"asynchronous": QUEUE},
    "both": {"endpoint": MISSING_ENDPOINT, "asynchronous": QUEUE},
    "stored": STORED,
}
# The gateway that asks for a key renews the lease of a model, and wakes another one.
LEASE_HOURS = 2.0
LEASE = {"schedule": f"{DEPLOYMENT.lease_group}/{ENDPOINT}", "wake": False}
ASLEEP_ENDPOINT = "easel-main-asleep"
ASLEEP = {
    "endpoint": ASLEEP_ENDPOINT,
    "usd_per_hour": 1.408,
    "lease": {"schedule": f"{DEPLOYMENT.lease_group}/{ASLEEP_ENDPOINT}", "wake": True},
}
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


def create_leases(clients: Clients) -> None:
    """Let a lease be due for renewal, and another one have ended its endpoint an hour ago."""
    scheduler = clients.get("scheduler", REGION)
    scheduler.create_schedule_group(Name=DEPLOYMENT.lease_group)
    create_endpoint(clients, ASLEEP_ENDPOINT, {})
    clients.get("sagemaker", REGION).delete_endpoint(EndpointName=ASLEEP_ENDPOINT)
    for name, hours in ((ENDPOINT, LEASE_HOURS / 2), (ASLEEP_ENDPOINT, -1)):
        ends = datetime.now(UTC) + timedelta(hours=hours)
        leased = Scheduled(Lease(LEASE_HOURS), name, 1.408, ends, active=True)
        definition = leased.definition(name, DEPLOYMENT.lease_role, "aws")
        scheduler.create_schedule(GroupName=DEPLOYMENT.lease_group, Name=name, **definition)


def hours_left(clients: Clients, endpoint: str) -> float:
    """Return how long an endpoint's lease lasts."""
    scheduler = clients.get("scheduler", REGION)
    schedule = scheduler.get_schedule(GroupName=DEPLOYMENT.lease_group, Name=endpoint)
    return (Scheduled.read(schedule).ends - datetime.now(UTC)) / timedelta(hours=1)


def scale(sagemaker, instances):
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=ASYNC_ENDPOINT,
        DesiredWeightsAndCapacities=[
            {"VariantName": "AllTraffic", "DesiredInstanceCount": instances}
        ],
    )
