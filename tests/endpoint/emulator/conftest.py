from __future__ import annotations

import os
import textwrap

import pytest

from endpoint.emulator.client import EmulatorClient
from endpoint.emulator.process.clients import Clients
from endpoint.emulator.process.http_server import serving
from tests.emulated_aws import empty_aws
from tests.endpoint.emulator.apigateway import packaged
from tests.endpoint.emulator.doubles import (
    BUCKET,
    REGION,
    Container,
    ContainerHandler,
    create_endpoint,
)
from tests.endpoint.emulator.training.doubles import ROLE, create_role


# Not for the session: tests of other folders need their settings back.
@pytest.fixture(scope="package", autouse=True)
def _no_real_aws():
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield


@pytest.fixture
def container():
    double = Container()
    with serving(ContainerHandler, container=double) as server:
        double.url = server.url
        yield double


@pytest.fixture(scope="package")
def aws():
    with empty_aws() as server:
        yield server


@pytest.fixture(scope="package")
def clients(aws):
    clients = Clients(lambda: aws.url)
    clients.get("s3", REGION).create_bucket(Bucket=BUCKET)
    return clients


@pytest.fixture(scope="package")
def switches(aws):
    return EmulatorClient(aws.url)


@pytest.fixture(scope="package")
def runtime(clients):
    return clients.get("sagemaker-runtime", REGION)


@pytest.fixture(scope="package")
def s3(clients):
    return clients.get("s3", REGION)


@pytest.fixture(scope="package")
def training_role(clients):
    """The ARN of a role that SageMaker and EventBridge can assume."""
    create_role(clients, REGION)
    return ROLE


@pytest.fixture
def endpoint(clients, switches, container):
    name = create_endpoint(clients)
    switches.set_container(name, container.url)
    yield name
    switches.set_container(name, None)
    switches.set_clock(speed=1)


@pytest.fixture
def async_endpoint(clients, switches, container):
    name = create_endpoint(
        clients,
        {
            "OutputConfig": {
                "S3OutputPath": f"s3://{BUCKET}/out/",
                "S3FailurePath": f"s3://{BUCKET}/failed",
            },
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1},
        },
    )
    switches.set_container(name, container.url)
    yield name
    switches.set_faults(name)
    switches.set_container(name, None)
    switches.set_clock(speed=1)


@pytest.fixture
def script(tmp_path):
    """Write an inference.py and return its folder."""

    def write(source):
        folder = tmp_path / "code"
        folder.mkdir(exist_ok=True)
        (folder / "inference.py").write_text(textwrap.dedent(source), "utf-8")
        return folder

    return write


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    folder = packaged.write(tmp_path_factory.mktemp("gateway") / "app")
    return packaged.package(folder, folder.parent / "out")
