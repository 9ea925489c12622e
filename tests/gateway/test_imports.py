"""What a cold start loads, and what it leaves until it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GATEWAY = Path(__file__).parents[2] / "gateway"
# Each costs a cold start milliseconds or megabytes that pages, options and refusals do without.
HEAVY = {
    "PIL", "asyncio", "boto3", "botocore.client", "botocore.httpsession", "botocore.session",
    "email", "essential_generators", "http.client", "multiprocessing", "numpy", "pandas",
    "pydantic", "requests", "s3transfer", "sagemaker", "sqlite3", "ssl", "torch", "unittest",
    "urllib3", "xml", "yaml",
}  # fmt: skip

LIGHT = {"chalicelib.training_settings"}

_LOADED = "import json, sys; {}; print(json.dumps(sorted(sys.modules)))"


def loaded_by(statement):
    """Return the modules that a fresh Python has after a statement, in the gateway's folder."""
    variables = {**os.environ, "EASEL_MODELS": '{"sd": {"endpoint": "easel-sd"}}'}
    done = subprocess.run(
        [sys.executable, "-c", _LOADED.format(statement)],
        cwd=GATEWAY,
        env={**variables, "PYTHONPATH": str(GATEWAY)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def nothing():
    """What Python has loaded by itself, path files of other packages included."""
    return loaded_by("pass")


def test_starting_the_gateway_loads_nothing_heavy(nothing):
    loaded = loaded_by("import app") - nothing

    assert "chalicelib.images.service" in loaded
    # Fine-tuning takes 35 ms more, which its own first request waits for.
    assert not any(name.startswith("chalicelib.training") for name in loaded - LIGHT)
    assert loaded & HEAVY == set()


def test_the_first_client_does_load_what_a_picture_needs(nothing):
    client = "from chalicelib.aws.clients import LazyClient; LazyClient('s3', 5)"
    variables = "import os; os.environ['AWS_DEFAULT_REGION'] = 'us-east-1'"

    made = loaded_by(f"{variables}; {client}") - nothing
    used = loaded_by(f"{variables}; {client}.client()") - nothing

    assert "botocore.client" not in made
    assert {"botocore.client", "urllib3"} <= used
    # Nothing is asked of these two that botocore does not do by itself.
    assert not {"boto3", "s3transfer"} & used
