"""Easel as it is deployed, on this machine, with a model that takes a fixed time per image."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import urllib3

from endpoint.cli.options import CONCURRENCY, AccessOptions
from endpoint.emulator.client import EmulatorClient
from endpoint.emulator.process.clients import Clients, environment
from endpoint.emulator.process.processes import Child, free_port
from endpoint.emulator.run import create_endpoint
from endpoint.provision.gateway.gateway_access import access_of
from endpoint.provision.gateway.gateway_project import GatewaySettings, OfferedModel
from tests.benchmarks.lib.processes import process_tree
from tests.end_to_end.account import (
    ASYNC_ENDPOINT,
    BUCKET,
    ENDPOINT,
    QUEUE,
    REGION,
    create_async_endpoint,
)
from tests.packages import package_gateway

# All clients have one address, so its limit would be all that is measured.
_ACCESS = AccessOptions(
    keys=None,
    open=True,
    new_secret=False,
    pictures_per_minute=0,
    prompt_filter=None,
    prompt_filter_words=None,
    cors_origins=None,
    cdn=None,
)
# As `deploy` writes them, with the defaults of its options.
SETTINGS = GatewaySettings(
    (
        OfferedModel("sd", ENDPOINT, "benchmark"),
        OfferedModel("sdxl", ASYNC_ENDPOINT, "benchmark", jobs=QUEUE["jobs"]),
    ),
    concurrency=CONCURRENCY,
    access=access_of(_ACCESS, {}, BUCKET).variables,
)
GENERATION_SECONDS = 0.1
_MODEL_CODE = Path(__file__).parent / "fixed_time_model"
_READY_SECONDS = 120.0


@dataclass
class Deployment:
    """The running parts.

    Attributes:
        url: of the API, without a trailing slash.
        aws: controls the emulated AWS.
        gateway: the process of API Gateway, whose children are the Lambdas.
        cloud: the process of the emulated AWS: SageMaker, S3 and the other services.
        model: the process of the model server, whose child generates images.
        clients: boto3 clients of the emulated AWS.
    """

    url: str
    aws: EmulatorClient
    clients: Clients
    gateway: Child
    cloud: Child
    model: Child
    _seeds: Iterator[int] = field(default_factory=itertools.count)

    def image_url(self, model: str) -> str:
        """Return the URL of an image that has not been requested yet."""
        return f"{self.url}/inference/a%20cat?model={model}&seed={next(self._seeds)}"

    def lambdas(self) -> list[int]:
        """Return the process ids of the running Lambdas."""
        return list(process_tree(self.gateway.process.pid))[1:]

    def delete_old_images(self, seconds: float) -> None:
        """Delete older objects, as the bucket's lifecycle rule does after days."""
        s3 = self.clients.get("s3", REGION)
        oldest = datetime.now(UTC) - timedelta(seconds=seconds)
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for each in page.get("Contents", ()):
                if each["LastModified"] < oldest:
                    s3.delete_object(Bucket=BUCKET, Key=each["Key"])


@contextmanager
def deployed() -> Iterator[Deployment]:
    """Start AWS, a model and the packaged gateway, each in a process of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        package = package_gateway(folder)
        limit_instances(package / "sam.json", CONCURRENCY)
        model, aws = free_port(), free_port()
        options = ["--code", str(_MODEL_CODE), "--model-dir", str(_MODEL_CODE)]
        server = _start(stack, model, "model-server", options)
        container = f"--container={ENDPOINT}=http://127.0.0.1:{model}"
        cloud = _start(stack, aws, "aws", [container])
        clients = Clients(lambda: f"http://127.0.0.1:{aws}")
        controls = _create_endpoints(
            clients, f"http://127.0.0.1:{aws}", f"http://127.0.0.1:{model}"
        )
        variables = {**environment(f"http://127.0.0.1:{aws}", REGION), **SETTINGS.environment()}
        env_options = [f"--env={name}={value}" for name, value in variables.items()]
        port = free_port()
        gateway = _start(stack, port, "api-gateway", ["--package", str(package), *env_options])
        deployment = Deployment(
            f"http://127.0.0.1:{port}/api", controls, clients, gateway, cloud, server
        )
        _wait(lambda: _status(f"{deployment.url}/inference/x") == 200)
        yield deployment


def limit_instances(template: Path, count: int) -> None:
    """Give the function a reserved concurrency, as in a deployment with a limit."""
    document = json.loads(template.read_text("utf-8"))
    for resource in document["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["ReservedConcurrentExecutions"] = count
    template.write_text(json.dumps(document), "utf-8")


def _create_endpoints(clients: Clients, aws: str, model: str) -> EmulatorClient:
    _wait(lambda: _status(f"{aws}/emulator/requests") == 200)
    create_endpoint(clients, ENDPOINT, {})
    create_async_endpoint(clients, ASYNC_ENDPOINT)
    controls = EmulatorClient(aws)
    for name in (ENDPOINT, ASYNC_ENDPOINT):
        controls.set_container(name, model)
    return controls


def _start(stack: ExitStack, port: int, command: str, arguments: list[str]) -> Child:
    variables = {**os.environ, "EASEL_BENCHMARK_SECONDS": str(GENERATION_SECONDS)}
    return stack.enter_context(
        Child(
            command,
            "endpoint.emulator",
            [command, "--port", str(port), *arguments],
            environment=variables,
            output=subprocess.DEVNULL,
        )
    )


def _wait(is_ready: Callable[[], bool]) -> None:
    until = time.monotonic() + _READY_SECONDS
    while not is_ready():
        if time.monotonic() > until:
            raise TimeoutError("the emulator did not start")
        time.sleep(0.2)


def _status(url: str) -> int:
    try:
        return urllib3.request("GET", url, headers={"Accept": "*/*"}, retries=False).status
    except urllib3.exceptions.HTTPError:
        return 0
