"""`python -m endpoint train` with the real trainer, up to the picture that uses the adapter."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import requests
from PIL import Image, ImageDraw

from endpoint.core.training_jobs import places
from endpoint.emulator.aws_server import AwsServer
from endpoint.emulator.client import EmulatorClient
from endpoint.emulator.container import easel_server
from endpoint.emulator.process.clients import Clients, environment
from endpoint.emulator.run import CODE, CONTAINER, create_endpoint
from endpoint.emulator.served_model import DEMO
from tests.conftest import ALL
from tests.end_to_end.conftest import serve_locally
from tests.packages import ROOT

pytestmark = pytest.mark.skipif(not ALL, reason="takes half a minute of a processor")

# The deployment is in another region than the endpoint, which `create_endpoint` decides: moto has
# one S3 for all tests of a process, in which the bucket of that region exists already.
ENDPOINT_REGION, REGION = "us-east-1", "eu-west-1"
ENDPOINT, BUCKET = "easel-main-taught", f"easel-main-123456789012-{REGION}"
MODEL = DEMO.name
IMAGE = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/huggingface-pytorch-training:some-tag"


@pytest.fixture(scope="module")
def variables():
    """The variables of an emulated account with a deployment's bucket and the bundled model."""
    with AwsServer().serve() as aws:
        clients = Clients(lambda: aws.url)
        EmulatorClient(aws.url).set_training(mirror_seconds=0.2)
        bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": BUCKET}}
        clients.get("cloudformation", REGION).create_stack(
            StackName="easel-main",
            TemplateBody=json.dumps({"Resources": {"Bucket": bucket}}),
            Tags=[{"Key": "easel", "Value": "main"}],
        )
        create_endpoint(clients, ENDPOINT, {})
        own = environment(aws.url, ENDPOINT_REGION)
        looked_for = {"EASEL_LORAS_FROM": f"s3://{BUCKET}/loras/{MODEL}/", "EASEL_COMPILE": "off"}
        container = {**os.environ, **CONTAINER, **own, **looked_for, "OMP_NUM_THREADS": "1"}
        with easel_server.serving(CODE, DEMO, container) as model:
            aws.registry.register(ENDPOINT, model.url)
            yield own


@pytest.fixture
def gateway(variables):
    model = {"endpoint": ENDPOINT, "loras": [], "adapters": f"s3://{BUCKET}/loras/{MODEL}/"}
    with serve_locally({**variables, "EASEL_MODELS": json.dumps({"sd": model})}) as url:
        yield url


def test_what_the_script_has_trained_is_in_the_url(variables, gateway, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, color in enumerate(("white", "navy", "gold")):
        image = Image.new("RGB", (160, 128), color)
        ImageDraw.Draw(image).ellipse((30, 20, 110, 100), fill="cyan", outline="magenta", width=9)
        image.save(photos / f"{number}.png")
    command = [
        *(sys.executable, "-m", "endpoint", "train", str(photos), "--model", str(DEMO)),
        *("--name", "zorble", "--trigger", "a zorble", "--steps", "4", "--rank", "2"),
        *("--rate", "0.01", "--resolution", "64", "--sample-prompt", "a zorble"),
        *("--contact-sheet", str(tmp_path / "sheet.png"), "--image", IMAGE, "--region", REGION),
        *("--watch", "--json", "--yes"),
    ]
    address = f"{gateway}/inference/a%20zorble"
    asked = {"model": "sd", "seed": "7", "steps": "4"}
    before = requests.get(address, asked | {"lora": "zorble"}, timeout=60)
    assert (before.status_code, before.json()["error"]["field"]) == (400, "lora")

    script = {**os.environ, **variables, "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION}
    done = subprocess.run(
        command, cwd=ROOT, env=script, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["state"], said["step"], len(said["loss"])) == ("published", 4, 4)
    assert len(said["samples"]) == 2
    assert said["result"] == f"s3://{BUCKET}/{places.adapter(MODEL, 'zorble')}"

    without = requests.get(address, asked, timeout=60)
    taught = requests.get(address, asked | {"lora": "zorble"}, timeout=60)
    assert (without.status_code, taught.status_code) == (200, 200), taught.text[:300]
    assert taught.headers["Content-Type"] == "image/png"
    assert taught.content != without.content
