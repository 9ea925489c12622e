"""Asynchronous invocations, and waiting for what they write to S3."""

from __future__ import annotations

import threading
import time

from botocore.exceptions import ClientError

from tests.endpoint.emulator.doubles import (
    BUCKET,
    PNG,
    REGION,
)


def submit(runtime, endpoint, **more):
    given = {"Body": b'{"prompt": "a cat"}'} if "InputLocation" not in more else {}
    return runtime.invoke_endpoint_async(
        EndpointName=endpoint,
        **{"ContentType": "application/json", "Accept": "image/png", **given, **more},
    )


def key(location):
    return location.removeprefix(f"s3://{BUCKET}/")


def wait_for(s3, location):
    return eventually(lambda: s3.get_object(Bucket=BUCKET, Key=key(location)))


def eventually(attempt):
    """Ask until there is no error from AWS; give up after 20 s."""
    until = time.monotonic() + 60
    while True:
        try:
            return attempt()
        except ClientError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def exists(s3, location):
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=key(location))
    return bool(listed.get("Contents"))


class Gate:
    """A container that answers when it may, and remembers the order of its requests."""

    def __init__(self):
        self.open = threading.Event()
        self.bodies: list[bytes] = []

    def __call__(self, body):
        self.bodies.append(body)
        self.open.wait(60)
        return 200, PNG


def scale(clients, endpoint, instances):
    clients.get("sagemaker", REGION).update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[
            {"VariantName": "AllTraffic", "DesiredInstanceCount": instances}
        ],
    )
