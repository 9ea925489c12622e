"""A container's double, an endpoint in front of it, and waiting for what takes time."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from endpoint.emulator.process.http_server import QuietHandler

REGION = "us-east-1"
BUCKET = "easel-pictures"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


@dataclass
class Container:
    """A model server's double: keeps the requests in `got`, and responds as `behave` returns."""

    url: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    behave: Callable[[bytes], tuple[int, bytes]] = lambda _body: (200, PNG)


class ContainerHandler(QuietHandler):
    def do_POST(self):
        container: Container = self.server.container  # type: ignore[attr-defined]
        body = self.body()
        container.got.append((dict(self.headers.items()), body))
        status, answer = container.behave(body)
        headers = [("Content-Type", self.headers.get("Accept", "application/json"))]
        attributes = self.headers.get("X-Amzn-SageMaker-Custom-Attributes")
        if attributes:
            headers.append(("X-Amzn-SageMaker-Custom-Attributes", f"seen {attributes}"))
        self.answer(status, headers, answer)


EASEL = {"Image": "image", "Environment": {"SAGEMAKER_PROGRAM": "inference.py"}}


def create_endpoint(clients, asynchronous=None, name=None, *, container=EASEL, **variant_options):
    name = name or f"test-{uuid.uuid4().hex[:12]}"
    sagemaker = clients.get("sagemaker", REGION)
    role = "arn:aws:iam::123456789012:role/easel"
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InstanceType": "ml.g5.xlarge",
        "InitialInstanceCount": 1,
        **variant_options,
    }
    more = {"AsyncInferenceConfig": asynchronous} if asynchronous else {}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], **more)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    return name


def invoke(runtime, endpoint, body=b"{}", **more):
    return runtime.invoke_endpoint(
        EndpointName=endpoint,
        Body=body,
        ContentType="application/json",
        **{"Accept": "image/png", **more},
    )


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "never happened"
        time.sleep(0.02)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    # A zombie that init has not yet collected is no process any more.
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
