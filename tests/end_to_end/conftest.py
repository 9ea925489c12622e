"""The whole way of a picture, with real parts, through both kinds of gateway.

`gateway_url` is the public URL, without a slash at its end: once of `chalice local`, and once of
the package that `chalice package` makes, in the real Runtime Interface Client behind the emulated
API Gateway. Behind both are the emulated SageMaker and a model server whose script paints at once;
the real model has its tests in test_run.py.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from contextlib import contextmanager

import pytest
import requests

from endpoint.emulator.apigateway import packaged_gateway
from endpoint.emulator.client import EmulatorClient
from endpoint.emulator.container import easel_server
from endpoint.emulator.process.clients import Clients, environment
from endpoint.emulator.process.processes import Child, free_port
from endpoint.emulator.run import create_endpoint
from tests.browsers.launch import chromium
from tests.emulated_aws import empty_aws
from tests.end_to_end.access import AUTHORIZED, SETTINGS
from tests.end_to_end.account import (
    ASLEEP_ENDPOINT,
    ASYNC_ENDPOINT,
    ENDPOINT,
    LARGE,
    MODELS,
    MOST_WAITING,
    REGION,
    SERVING_CODE,
    STORED_ENDPOINT,
    create_async_endpoint,
    create_leases,
    scale,
)
from tests.end_to_end.guarded_aws import GATEWAY_KEY, TRAINING_GATEWAY_KEY, GuardedAws
from tests.end_to_end.studio import BrowserSession, Studio
from tests.end_to_end.training_gateway import create_training_stack, training_setting
from tests.packages import ROOT, package_gateway

# Enough for whatever is expected to be ready in time, also on a busy machine: the default.
DEADLINE = 24
# So short that tests of slow endpoints are not slow themselves.
SHORT_DEADLINE = 4
# From the first request to a cold endpoint on: longer than one request can wait, or than two.
COLD_SECONDS, COLDER_SECONDS = 1.25 * SHORT_DEADLINE, 2.5 * SHORT_DEADLINE


def pytest_itemcollected(item):
    """Put the operation into the node id of a test of schemathesis's, which has it in its name."""
    if item.name not in item.nodeid:
        operation = item.name.partition("[")[2].removesuffix("]")
        item._id = item.id.with_params(operation)


@pytest.fixture(scope="package")
def aws():
    code = SERVING_CODE
    model_server = easel_server.serving(code, code, {**os.environ, **LARGE})
    with empty_aws(GuardedAws()) as server, model_server as model:
        clients = Clients(lambda: server.url)
        create_endpoint(clients, ENDPOINT, {})
        create_endpoint(clients, STORED_ENDPOINT, {})
        create_async_endpoint(clients, ASYNC_ENDPOINT)
        create_leases(clients)
        for name in (ENDPOINT, STORED_ENDPOINT, ASYNC_ENDPOINT, ASLEEP_ENDPOINT):
            server.registry.register(name, model.url)
        yield server


@pytest.fixture(scope="package")
def gateway_environment(aws):
    return {
        **environment(aws.url, REGION),
        "AWS_ACCESS_KEY_ID": GATEWAY_KEY,
        "EASEL_MODELS": json.dumps(MODELS),
        "EASEL_MOST_WAITING": str(2 * MOST_WAITING),
        "EASEL_DEADLINE_SECONDS": str(DEADLINE),
    }


@pytest.fixture
def emulator(aws):
    """The emulator's switches, with nothing switched on and nothing remembered."""
    client = EmulatorClient(aws.url)
    client.clear_requests()
    yield client
    for name in (ENDPOINT, ASYNC_ENDPOINT):
        client.set_faults(name)


@pytest.fixture(scope="package")
def impatient_environment(gateway_environment):
    return {**gateway_environment, "EASEL_DEADLINE_SECONDS": str(SHORT_DEADLINE)}


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    return package_gateway(tmp_path_factory.mktemp("package"))


@contextmanager
def serve_locally(environment):
    """Serve the gateway by `chalice local`."""
    port = free_port()
    arguments = [str(ROOT / "gateway"), str(port)]
    module = "endpoint.emulator.apigateway.local_gateway"
    variables = {**os.environ, **environment}
    with Child("the gateway", module, arguments, environment=variables) as child:
        child.wait_until(lambda: is_healthy(f"http://127.0.0.1:{port}/api/health"), 120)
        yield warm(f"http://127.0.0.1:{port}/api")


@contextmanager
def serve_package(package, environment):
    """Serve the gateway as `chalice package` packs it."""
    with packaged_gateway.serve(package, environment=environment) as server:
        yield warm(f"{server.url}/api")


def is_healthy(url):
    try:
        return requests.get(url, timeout=5).status_code == 200
    except (requests.ConnectionError, requests.Timeout):
        return False


def warm(url):
    """Have a gateway make its AWS clients, which takes a good part of a short deadline."""
    for model in ("sd", "sdxl"):
        address = f"{url}/inference/a%20warm-up?model={model}&seed=1"
        requests.get(address, headers=AUTHORIZED, timeout=120)
    return url


@pytest.fixture(scope="package")
def chalice_local(gateway_environment):
    with serve_locally(gateway_environment) as url:
        yield url


@pytest.fixture(scope="package")
def api_gateway(package, gateway_environment):
    with serve_package(package, gateway_environment) as url:
        yield url


@pytest.fixture(scope="package")
def impatient_local(impatient_environment):
    with serve_locally(impatient_environment) as url:
        yield url


@pytest.fixture(scope="package")
def impatient_package(package, impatient_environment):
    with serve_package(package, impatient_environment) as url:
        yield url


@pytest.fixture(scope="package")
def guarded_local(impatient_environment):
    with serve_locally({**impatient_environment, **SETTINGS}) as url:
        yield url


@pytest.fixture(scope="package")
def guarded_package(package, impatient_environment):
    with serve_package(package, {**impatient_environment, **SETTINGS}) as url:
        yield url


@pytest.fixture(scope="package")
def training_stack(aws):
    """The stack of training; its jobs' files are mirrored at once."""
    create_training_stack(Clients(lambda: aws.url))
    EmulatorClient(aws.url).set_training(mirror_seconds=0.05)


@pytest.fixture(scope="package")
def training_local(training_stack, gateway_environment):
    """A gateway that trains, for everyone."""
    variables = {
        "AWS_ACCESS_KEY_ID": TRAINING_GATEWAY_KEY,
        "EASEL_TRAINING": training_setting({"sd": {}}, open=True),
    }
    with serve_locally({**gateway_environment, **variables}) as url:
        yield url


@pytest.fixture(params=["chalice_local", "api_gateway"])
def gateway_url(request):
    return str(request.getfixturevalue(request.param))


@pytest.fixture(params=["impatient_local", "impatient_package"])
def impatient_url(request):
    """A gateway that answers after SHORT_DEADLINE at the latest."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture(params=["guarded_local", "guarded_package"])
def guarded_url(request):
    """A gateway that asks for a key."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def prompt():
    """A prompt that was not sent yet."""
    return f"a cat with {secrets.token_hex(8)}"


@pytest.fixture
def cold(aws, emulator):
    """An asynchronous endpoint at zero, which wakes COLD_SECONDS after its first request."""
    with _asleep(aws, emulator, COLD_SECONDS):
        yield


@pytest.fixture
def colder(aws, emulator):
    """An asynchronous endpoint at zero, which wakes COLDER_SECONDS after its first request."""
    with _asleep(aws, emulator, COLDER_SECONDS):
        yield


@contextmanager
def _asleep(aws, emulator, seconds):
    sagemaker = Clients(lambda: aws.url).get("sagemaker", REGION)
    over = threading.Event()

    def wake():
        while not emulator.requests(ASYNC_ENDPOINT):
            if over.wait(0.1):
                return
        if not over.wait(seconds):
            scale(sagemaker, 1)

    scale(sagemaker, 0)
    waking = threading.Thread(target=wake)
    waking.start()
    try:
        yield
    finally:
        over.set()
        waking.join()
        scale(sagemaker, 1)


@pytest.fixture(scope="session")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def motion():
    """What the browser says of motion; painting it without a GPU takes much of a processor."""
    return "reduce"


@pytest.fixture
def page(browser, motion):
    """A page in which no error and no refusal of the content security policy goes unnoticed."""
    session = BrowserSession(browser, reduced_motion=motion)
    yield session.page
    session.context.close()
    assert session.errors == []


@pytest.fixture
def studio(page, chalice_local):
    return Studio(page, chalice_local)


@pytest.fixture
def clipboard(page):
    """Return a function that reads the browser's clipboard."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    return lambda: str(page.evaluate("navigator.clipboard.readText()"))
