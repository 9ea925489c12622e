"""Serving scripts, and a client of the model server that runs one."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import urllib3

from endpoint.emulator.container.model_server import ModelServer

ECHO = """
    import json

    def model_fn(model_dir):
        return model_dir

    def input_fn(body, content_type):
        return [type(body).__name__, content_type, len(body)]

    def predict_fn(data, model, context):
        return {"input": data, "model": model, "headers": dict(context.get_all_request_header(0))}

    def output_fn(prediction, accept):
        return json.dumps({**prediction, "accept": accept})
"""


class Served:
    """A model server under test, and a client of it."""

    def __init__(self, url):
        self.url = url
        self._pool = urllib3.PoolManager(maxsize=130, block=True)

    def post(self, body=b"{}", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._pool.request(
            "POST",
            f"{self.url}/invocations",
            body=body,
            headers={"Content-Type": "application/json", **named},
            retries=False,
            timeout=30,
        )

    def ping(self):
        return self._pool.request("GET", f"{self.url}/ping", retries=False, timeout=5).status


@contextmanager
def serving(folder, **variables):
    server = ModelServer(folder, Path("/opt/ml/model"), {**os.environ, **variables})
    with server.serve() as running:
        yield Served(running.url)


Write = Callable[[str], Path]


STEPS = """
    import json, os, sys, time

    def model_fn(model_dir):
        return None

    def input_fn(body, content_type):
        return json.loads(body)

    def predict_fn(data, model, context):
        %s

    def output_fn(prediction, accept):
        return prediction if isinstance(prediction, bytes) else json.dumps(prediction)
"""
