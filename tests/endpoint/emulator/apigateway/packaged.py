"""A small chalice application, packaged by the real `chalice package`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

APP = """
import json, os, sys, time
from chalice import Chalice, Response

app = Chalice(app_name="double")
app.api.binary_types = json.loads(os.environ.get("BINARY_TYPES", '["*/*"]'))
PREFIX = os.environ.get("ROUTE_PREFIX", "")
PNG = b"\\x89PNG" + bytes(range(256))
COUNT = [0]
JSON = {"Content-Type": "application/json"}


@app.route(PREFIX + "/health")
def health():
    return Response(json.dumps(dict(os.environ)).encode(), headers=JSON)


@app.route(PREFIX + "/png/{text}", cors=True)
def png(text):
    return Response(PNG, headers={"Content-Type": "image/png", "X-Text": text})


@app.route(PREFIX + "/png/default")
def default():
    return Response(PNG, headers={"Content-Type": "image/png", "X-Text": "the default"})


@app.route(PREFIX + "/echo", methods=["GET", "POST"])
def echo():
    event = app.current_request.to_original_event()
    return Response(json.dumps(event).encode(), headers=JSON)


@app.route(PREFIX + "/do/{what}")
def do(what):
    COUNT[0] += 1
    if what == "sleep":
        time.sleep(1)
    if what == "exit":
        os._exit(3)
    if what == "big":
        return Response(b"x" * 5_000_000, headers={"Content-Type": "image/png"})
    if what == "import":
        import boto3
    return Response(str(COUNT[0]).encode(), headers={"Content-Type": "text/plain", "Server": "me"})
"""


def write(folder: Path) -> Path:
    """Write the application into `folder` and return it."""
    (folder / ".chalice").mkdir(parents=True)
    (folder / "app.py").write_text(APP, "utf-8")
    (folder / "requirements.txt").touch()
    config = {
        "version": "2.0",
        "app_name": "double",
        "stages": {
            "dev": {
                "api_gateway_stage": "api",
                "api_gateway_endpoint_type": "REGIONAL",
                "lambda_timeout": 20,
                "lambda_memory_size": 512,
                "reserved_concurrency": 2,
                "environment_variables": {"FROM_TEMPLATE": "yes"},
            },
            "local": {"environment_variables": {"ROUTE_PREFIX": "/api"}},
        },
    }
    (folder / ".chalice" / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def package(folder: Path, out: Path, binary_types: str = '["*/*"]') -> Path:
    """Package the application in `folder` into `out` and return that."""
    variables = {"AWS_DEFAULT_REGION": "us-east-1", "BINARY_TYPES": binary_types}
    subprocess.run(
        [sys.executable, "-c", "from chalice.cli import main; main()", "package", str(out)],
        cwd=folder,
        env={**os.environ, **variables},
        check=True,
        capture_output=True,
    )
    return out
