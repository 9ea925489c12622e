"""The whole way of a picture, with real parts, behind both doors that a visitor can come through.

`door` is the public URL, without a slash at its end: once of `chalice local`, and once of the
package that `chalice package` makes, in the real Runtime Interface Client behind the emulated API
Gateway. Behind either stand the emulated SageMaker and a model server with a script that paints at
once; the real model has its tests in test_run.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from endpoint.emulator import packaged_gateway
from endpoint.emulator.aws_server import AwsServer
from endpoint.emulator.client import EmulatorClient
from endpoint.emulator.clients import Clients, environment
from endpoint.emulator.model_server import ModelServer
from endpoint.emulator.processes import Child, free_port
from endpoint.emulator.run import create_endpoint
from tests.packages import ROOT, package_gateway

REGION = "us-east-1"
ENDPOINT = "easel-sd"
# Short, so that the tests of slow endpoints are not; the default is 24.
DEADLINE = 4


@pytest.fixture(scope="session")
def aws() -> Iterator[AwsServer]:
    painter = Path(__file__).parent / "painter"
    with AwsServer().serve() as server, ModelServer(painter, painter, {}).serve() as model:
        create_endpoint(Clients(lambda: server.url), ENDPOINT, {})
        server.registry.register(ENDPOINT, model.url)
        yield server


@pytest.fixture(scope="session")
def gateway_environment(aws: AwsServer) -> dict[str, str]:
    return {
        **environment(aws.url, REGION),
        # A second model, whose endpoint nobody made.
        "EASEL_MODELS": json.dumps({"sd": {"endpoint": ENDPOINT}, "gone": {"endpoint": "gone"}}),
        "EASEL_DEADLINE_SECONDS": str(DEADLINE),
    }


@pytest.fixture
def emulator(aws: AwsServer) -> Iterator[EmulatorClient]:
    """The emulator's switches, with nothing switched on and nothing remembered."""
    client = EmulatorClient(aws.url)
    client.clear_requests()
    yield client
    client.set_faults(ENDPOINT)


@pytest.fixture(scope="session")
def chalice_local(gateway_environment: dict[str, str]) -> Iterator[str]:
    port = free_port()
    arguments = [str(ROOT / "gateway"), str(port)]
    module = "endpoint.emulator.local_gateway"
    variables = {**os.environ, **gateway_environment}
    with Child("the gateway", module, arguments, environment=variables) as child:
        child.wait_until(lambda: _answers(f"http://127.0.0.1:{port}/api/health"), 60)
        yield f"http://127.0.0.1:{port}/api"


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_gateway(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def api_gateway(package: Path, gateway_environment: dict[str, str]) -> Iterator[str]:
    with packaged_gateway.serve(package, environment=gateway_environment) as server:
        yield f"{server.url}/api"


@pytest.fixture(params=["chalice_local", "api_gateway"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.ConnectionError:
        return False
