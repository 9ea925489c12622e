"""The whole way of a picture, with real parts, behind both doors that a visitor can come through.

`door` is the public URL, without a slash at its end: once of `chalice local`, and once of the
package that `chalice package` makes, in the real Runtime Interface Client behind the emulated API
Gateway. Behind either stand the emulated SageMaker and a model server with a script that paints at
once; the real model has its tests in test_run.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Page

from endpoint.emulator.apigateway import packaged_gateway
from endpoint.emulator.aws_server import AwsServer
from endpoint.emulator.client import EmulatorClient
from endpoint.emulator.container.model_server import ModelServer
from endpoint.emulator.process.clients import Clients, environment
from endpoint.emulator.process.processes import Child, free_port
from endpoint.emulator.run import create_endpoint
from tests.browser import chromium
from tests.packages import ROOT, package_gateway

NODE = Path(__file__).parent / "node"
NODE_CACHE = ROOT / ".cache" / "node"
REGION = "us-east-1"
ENDPOINT = "easel-sd"
ASYNC_ENDPOINT = "easel-sdxl"
BUCKET = "easel-pictures"
QUEUE = {"endpoint": ASYNC_ENDPOINT, "jobs": f"s3://{BUCKET}/jobs/"}
MOST_WAITING = 4
# Pictures above the model server's own limit of 6.5 MB, as `create_endpoint` allows them.
LARGE = {"MMS_MAX_RESPONSE_SIZE": "104857600"}
# Short, so that the tests of slow endpoints are not; the default is 24.
DEADLINE = 4


@pytest.fixture(scope="session")
def aws() -> Iterator[AwsServer]:
    painter = Path(__file__).parent / "painter"
    with AwsServer().serve() as server, ModelServer(painter, painter, LARGE).serve() as model:
        clients = Clients(lambda: server.url)
        create_endpoint(clients, ENDPOINT, {})
        create_async_endpoint(clients, ASYNC_ENDPOINT)
        for name in (ENDPOINT, ASYNC_ENDPOINT):
            server.registry.register(name, model.url)
        yield server


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


@pytest.fixture(scope="session")
def gateway_environment(aws: AwsServer) -> dict[str, str]:
    return {
        **environment(aws.url, REGION),
        "EASEL_MODELS": json.dumps(
            {
                "sd": {"endpoint": ENDPOINT},
                "gone": {"endpoint": "nobody-made-this"},
                "sdxl": {"asynchronous": QUEUE},
                "both": {"endpoint": "nobody-made-this", "asynchronous": QUEUE},
            }
        ),
        "EASEL_MOST_WAITING": str(MOST_WAITING),
        "EASEL_DEADLINE_SECONDS": str(DEADLINE),
    }


@pytest.fixture
def emulator(aws: AwsServer) -> Iterator[EmulatorClient]:
    """The emulator's switches, with nothing switched on and nothing remembered."""
    client = EmulatorClient(aws.url)
    client.clear_requests()
    yield client
    for name in (ENDPOINT, ASYNC_ENDPOINT):
        client.set_faults(name)


@pytest.fixture(scope="session")
def chalice_local(gateway_environment: dict[str, str]) -> Iterator[str]:
    port = free_port()
    arguments = [str(ROOT / "gateway"), str(port)]
    module = "endpoint.emulator.apigateway.local_gateway"
    variables = {**os.environ, **gateway_environment}
    with Child("the gateway", module, arguments, environment=variables) as child:
        child.wait_until(lambda: answers(f"http://127.0.0.1:{port}/api/health"), 60)
        yield warm(f"http://127.0.0.1:{port}/api")


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_gateway(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def api_gateway(package: Path, gateway_environment: dict[str, str]) -> Iterator[str]:
    with packaged_gateway.serve(package, environment=gateway_environment) as server:
        yield warm(f"{server.url}/api")


def warm(url: str) -> str:
    """Have a gateway make its AWS clients, which takes a good part of a test's deadline."""
    for model in ("sd", "sdxl"):
        requests.get(f"{url}/inference/a%20warm-up?model={model}&seed=1", timeout=120)
    return url


@pytest.fixture(scope="session")
def node() -> Callable[[str, str, dict[str, Any]], dict[str, Any]]:
    """Give a function that runs a script of `node/`, with the libraries that npm installs once."""
    npm, program = shutil.which("npm"), shutil.which("node")
    if not npm or not program:
        pytest.skip("Node.js is not installed here")
    NODE_CACHE.mkdir(parents=True, exist_ok=True)
    for file in NODE.iterdir():
        (NODE_CACHE / file.name).write_bytes(file.read_bytes())
    install = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
    subprocess.run(install, cwd=NODE_CACHE, check=True)

    def run(script: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
        command = [program, script, url, json.dumps(body)]
        done = subprocess.run(command, cwd=NODE_CACHE, check=True, capture_output=True, timeout=120)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


@pytest.fixture(params=["chalice_local", "api_gateway"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


class Person:
    """Somebody with a browser of their own, who notices every error in it."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.troubles: list[str] = []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", lambda said: said.type == "error" and self._note(said.text))

    def _note(self, text: str) -> None:
        # Chromium logs each answer that is an error; the page tells the person of it in words.
        if not text.startswith("Failed to load resource"):
            self.troubles.append(text)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in which no error and no refusal of the content security policy goes unnoticed."""
    person = Person(browser)
    yield person.page
    person.context.close()
    assert person.troubles == []


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.ConnectionError:
        return False
