"""The gateway as `chalice package` zips it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The console script of this very Python, wherever its folder is.
_CHALICE = "from chalice.cli import main; main()"


def package_gateway(folder: Path, checkout: Path = ROOT) -> Path:
    """Run `chalice package` for the stage `dev`, and return the folder with its two files.

    Chalice keeps what it has zipped beside the project, and another test run must not find half of
    it: so one packages after the other.

    Raises:
        RuntimeError: if it failed, or left a dependency out, which chalice calls a success.
    """
    command = [sys.executable, "-c", _CHALICE, "package", "--stage", "dev"]
    command += ["--merge-template", ".chalice/responses.json", str(folder)]
    environment = {**os.environ, "AWS_DEFAULT_REGION": "us-east-1"}
    project = checkout / "gateway"
    with (project / "app.py").open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        done = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, check=False
        )
    output = done.stdout + done.stderr
    if done.returncode or "Could not install" in output:
        raise RuntimeError(output)
    return folder


def proxy_event(path: str, route: str, **parameters: str) -> dict[str, object]:
    """Return an event as API Gateway's REST API sends it, with curl's headers."""
    return {
        "resource": route,
        "path": path,
        "httpMethod": "GET",
        "headers": {"Accept": "*/*", "User-Agent": "curl/8.0"},
        "multiValueHeaders": {"Accept": ["*/*"], "User-Agent": ["curl/8.0"]},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": parameters or None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": route,
            "httpMethod": "GET",
            "path": f"/api{path}",
            "stage": "api",
            "requestId": "00000000-0000-0000-0000-000000000000",
            "identity": {"sourceIp": "127.0.0.1", "userAgent": "curl/8.0"},
        },
        "body": None,
        "isBase64Encoded": False,
    }
