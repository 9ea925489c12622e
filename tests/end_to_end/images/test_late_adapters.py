"""Adapters that are published while a real model runs in 8 bits, real-time and asynchronous."""

import io
import json
import os
import time

import numpy as np
import pytest
from PIL import Image

from chalicelib.images.adapters import Adapters
from chalicelib.settings import Model, Queue
from endpoint.emulator.container import easel_server
from endpoint.emulator.process.clients import Clients, environment
from endpoint.emulator.run import CODE, CONTAINER, create_endpoint
from endpoint.emulator.served_model import DEMO
from tests.end_to_end.account import BUCKET, REGION, create_async_endpoint
from tests.gateway.doubles import GatewayClient

ENDPOINT, ASYNC_ENDPOINT = "easel-main-late", "easel-main-late-queue"
PREFIX = "loras/late/"
OWN = ("outline", "pixel")  # the adapters in the bundled model's folder
QUICK = {
    "EASEL_LORAS_FROM": f"s3://{BUCKET}/{PREFIX}",
    "EASEL_STORAGE": "fp8",
    "EASEL_COMPILE": "off",
    "EASEL_BATCH": "1",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def clients(aws):
    """Clients of an account in which the bundled model is behind both kinds of endpoint."""
    clients = Clients(lambda: aws.url)
    create_endpoint(clients, ENDPOINT, {})
    create_async_endpoint(clients, ASYNC_ENDPOINT)
    variables = {**os.environ, **CONTAINER, **environment(aws.url, REGION), **QUICK}
    with easel_server.serving(CODE, DEMO, variables) as model:
        for name in (ENDPOINT, ASYNC_ENDPOINT):
            aws.registry.register(name, model.url)
        yield clients


class Visitor:
    """A client of the gateway, whose lists of adapters become ten seconds older when it says so."""

    def __init__(self, http, s3):
        self._http, self._s3, self._seconds = http, s3, 0.0
        http.service.adapters = Adapters(http.service._store, lambda: time.time() + self._seconds)

    def later(self):
        self._seconds += 10

    def publish(self, name, file):
        content = (DEMO / "loras" / f"{file}.safetensors").read_bytes()
        self._s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}{name}.safetensors", Body=content)

    def delete(self, name):
        self._s3.delete_object(Bucket=BUCKET, Key=f"{PREFIX}{name}.safetensors")

    def get(self, lora="", model="sd"):
        path = f"/inference/a%20red%20apple?seed=7&steps=2&model={model}&lora={lora}"
        return self._http.get(path)

    def pixels(self, lora="", model="sd"):
        response = self.get(lora, model)
        assert response.status_code == 200, response.body
        return np.asarray(Image.open(io.BytesIO(response.body)))

    def names(self):
        models = json.loads(self._http.get("/options").body)["models"]
        return [model["loras"] for model in models]


@pytest.fixture
def visitor(clients, monkeypatch):
    http = GatewayClient(monkeypatch)
    s3 = clients.get("s3", REGION)
    http.endpoint = clients.get("sagemaker-runtime", REGION)
    queue, place = Queue(ASYNC_ENDPOINT, BUCKET, "jobs/"), (BUCKET, PREFIX)
    http.offer(
        {
            "sd": Model("sd", ENDPOINT, loras=OWN, adapters=place),
            "slow": Model("slow", None, queue, loras=OWN, adapters=place),
        },
        s3,
    )
    return Visitor(http, s3)


def test_a_new_adapter_is_used_replaced_and_deleted_without_a_restart(visitor):
    plain = visitor.get().body
    styles = {name: visitor.pixels(f"{name}:0.9") for name in OWN}
    assert visitor.get("late").status_code == 400
    visitor.publish("late", "outline")
    visitor.later()

    assert visitor.names() == [["late", *OWN]] * 2
    for model in ("sd", "slow"):
        assert (visitor.pixels("late:0.9", model) == styles["outline"]).all()
    assert visitor.get().body == plain

    visitor.publish("late", "pixel")
    visitor.later()
    for model in ("sd", "slow"):
        assert (visitor.pixels("late:0.9", model) == styles["pixel"]).all()
    assert (styles["pixel"] != styles["outline"]).any()

    visitor.delete("late")
    visitor.later()
    assert visitor.names() == [list(OWN)] * 2
    for model in ("sd", "slow"):
        assert "unknown adapter late" in visitor.get("late:0.9", model).body.decode()
    assert visitor.get().body == plain
