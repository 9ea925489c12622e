"""Easel as it is deployed, on this machine, with a model that takes a fixed time for a picture."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import urllib3

from endpoint.emulator.client import EmulatorClient
from endpoint.emulator.process.clients import Clients, environment
from endpoint.emulator.process.processes import Child, free_port
from endpoint.emulator.run import create_endpoint
from tests.benchmarks.lib.processes import below
from tests.end_to_end.conftest import (
    ASYNC_ENDPOINT,
    BUCKET,
    ENDPOINT,
    QUEUE,
    REGION,
    create_async_endpoint,
)
from tests.packages import package_gateway

INSTANCES, MOST_WAITING = 30, 20
PAINTING_SECONDS = 0.1
_PAINTER = Path(__file__).parent / "painter"
_READY_SECONDS = 120.0


@dataclass
class World:
    """The running whole.

    Attributes:
        url: of the API, without a slash at its end.
        aws: the emulated AWS's switches.
        gateway: the process of API Gateway, whose children are the Lambdas.
        cloud: the process of the emulated AWS: SageMaker, S3 and all else.
        model: the process of the model server, whose child paints.
        clients: reach the emulated AWS as boto3 does.
    """

    url: str
    aws: EmulatorClient
    clients: Clients
    gateway: Child
    cloud: Child
    model: Child
    _seeds: Iterator[int] = field(default_factory=itertools.count)

    def picture(self, model: str) -> str:
        """Return the URL of a picture that nobody has asked for yet."""
        return f"{self.url}/inference/a%20cat?model={model}&seed={next(self._seeds)}"

    def lambdas(self) -> list[int]:
        """Return the process ids of the Lambdas that run now."""
        return list(below(self.gateway.process.pid))[1:]

    def forget_pictures(self, seconds: float) -> None:
        """Delete what is older in the bucket, as its lifecycle rule does after days."""
        s3 = self.clients.get("s3", REGION)
        oldest = datetime.now(UTC) - timedelta(seconds=seconds)
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for each in page.get("Contents", ()):
                if each["LastModified"] < oldest:
                    s3.delete_object(Bucket=BUCKET, Key=each["Key"])


@contextmanager
def running() -> Iterator[World]:
    """Start AWS, a model and the packaged gateway, each in a process of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        package = package_gateway(folder)
        limit_instances(package / "sam.json", INSTANCES)
        model, aws = free_port(), free_port()
        painter = ["--code", str(_PAINTER), "--model-dir", str(_PAINTER)]
        server = _start(stack, model, "model-server", painter)
        container = f"--container={ENDPOINT}=http://127.0.0.1:{model}"
        cloud = _start(stack, aws, "aws", [container])
        clients = Clients(lambda: f"http://127.0.0.1:{aws}")
        switches = _furnish(clients, f"http://127.0.0.1:{aws}", f"http://127.0.0.1:{model}")
        variables = {**environment(f"http://127.0.0.1:{aws}", REGION), **_settings()}
        given = [f"--env={name}={value}" for name, value in variables.items()]
        port = free_port()
        gateway = _start(stack, port, "api-gateway", ["--package", str(package), *given])
        world = World(f"http://127.0.0.1:{port}/api", switches, clients, gateway, cloud, server)
        _wait(lambda: _status(f"{world.url}/inference/x") == 200)
        yield world


def _settings() -> dict[str, str]:
    models = {"sd": {"endpoint": ENDPOINT}, "sdxl": {"asynchronous": QUEUE}}
    return {"EASEL_MODELS": json.dumps(models), "EASEL_MOST_WAITING": str(MOST_WAITING)}


def limit_instances(template: Path, count: int) -> None:
    """Give the function a reserved concurrency, as a person could in the template."""
    document = json.loads(template.read_text("utf-8"))
    for resource in document["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["ReservedConcurrentExecutions"] = count
    template.write_text(json.dumps(document), "utf-8")


def _furnish(clients: Clients, aws: str, model: str) -> EmulatorClient:
    _wait(lambda: _status(f"{aws}/emulator/requests") == 200)
    create_endpoint(clients, ENDPOINT, {})
    create_async_endpoint(clients, ASYNC_ENDPOINT)
    switches = EmulatorClient(aws)
    for name in (ENDPOINT, ASYNC_ENDPOINT):
        switches.set_container(name, model)
    return switches


def _start(stack: ExitStack, port: int, command: str, arguments: list[str]) -> Child:
    variables = {**os.environ, "EASEL_BENCHMARK_SECONDS": str(PAINTING_SECONDS)}
    return stack.enter_context(
        Child(
            command,
            "endpoint.emulator",
            [command, "--port", str(port), *arguments],
            environment=variables,
            output=subprocess.DEVNULL,
        )
    )


def _wait(is_ready: object) -> None:
    until = time.monotonic() + _READY_SECONDS
    while not is_ready():  # type: ignore[operator]
        if time.monotonic() > until:
            raise TimeoutError("the emulator did not come up")
        time.sleep(0.2)


def _status(url: str) -> int:
    try:
        return urllib3.request("GET", url, headers={"Accept": "*/*"}, retries=False).status
    except urllib3.exceptions.HTTPError:
        return 0
