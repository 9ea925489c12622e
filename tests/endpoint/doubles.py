"""Doubles for the scripts' surroundings, and the steps that many tests begin with.

`world.py` has the largest one, an AWS account.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from typing import Any

from PIL import Image, ImageDraw

from endpoint import create_endpoint
from endpoint.aws.registry import SERVABLE
from endpoint.commands import build_image
from endpoint.core.clock import Clock
from endpoint.emulator.process.http_server import QuietHandler
from tests.endpoint.world import ACCOUNT, IMAGE, REGION

TRAINING_IMAGE = (
    f"763104351884.dkr.ecr.{REGION}.amazonaws.com/huggingface-pytorch-training:some-tag"
)
BUCKET = f"easel-main-{ACCOUNT}-{REGION}"
# The signature and the last chunk, which is all that the gateway checks.
PNG = b"\x89PNG\r\n\x1a\n" + b"a picture" * 10 + b"\x00\x00\x00\x00IEND\xaeB`\x82"


class Terminal(io.StringIO):
    """A text stream that claims to be a terminal."""

    def isatty(self):
        return True


class InstantClock(Clock):
    """A clock on which sleeping takes no time, for servers whose endpoints are ready at once."""

    _slept = 0.0

    def monotonic(self):
        return self._slept

    def sleep(self, seconds):
        self._slept += seconds


class Container(QuietHandler):
    """A serving container that returns the same picture for every request with a prompt.

    It describes itself if its server has a `description`.
    """

    def do_POST(self):
        request, described = json.loads(self.body()), getattr(self.server, "description", None)
        if described and request == {"describe": True}:
            body = json.dumps(described).encode()
            self.answer(200, [("Content-Type", "application/json")], body)
        elif isinstance(request.get("prompt"), str):
            self.answer(200, [("Content-Type", "image/png")], PNG)
        else:
            self.answer(400, [("Content-Type", "application/json")], b'"prompt must be text"')


class EmulatorClock(Clock):
    """A clock whose sleep advances an emulator's own."""

    def __init__(self, emulated):
        self._emulated = emulated

    def monotonic(self):
        return self._emulated.now()

    def sleep(self, seconds):
        self._emulated.skip(seconds)
        # The emulator's threads have to see the time pass.
        time.sleep(0.1 if seconds else 0)


def create(world, *options, model="sd"):
    """Run `create` in an account; return its exit code.

    Without the weights of an asynchronous model, which would come from the hub.
    """
    weights = () if "--weights" in options else ("--weights", "fetch")
    arguments = ("--model", model, "--image", IMAGE, "--yes", *weights, *options)
    return world.run(create_endpoint.main, *arguments)


def interrupted_build(world):
    """Run `build_image` and press Ctrl-C after a minute; return its exit code."""
    sleep = world.sleep

    def interrupt(seconds):
        sleep(seconds)
        if world.seconds >= until:
            raise KeyboardInterrupt

    until = world.seconds + 60
    world.sleep = interrupt
    try:
        return world.run(build_image.main, "--yes")
    finally:
        world.sleep = sleep


def put_image(world, repository, tag, media_type=SERVABLE):
    """Push an image of one small layer into a repository that exists."""
    layer = {"digest": "sha256:" + "0" * 64, "size": 1}
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": layer, "layers": [layer]}
    world.client("ecr").put_image(
        repositoryName=repository, imageManifest=json.dumps(manifest), imageTag=tag
    )


def create_gateway(world, role="", name="easel-main", **more):
    """Create the function and, as chalice does, an API in front of it; return the API's id."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("app.py", "app = None")
    function = world.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.12",
        Role=role or f"arn:aws:iam::{ACCOUNT}:role/easel-main-gateway-{REGION}",
        Handler="app.app",
        Code={"ZipFile": archive.getvalue()},
        **more,
    )["FunctionArn"]
    return create_api(world, function)


def create_api(world, function):
    """Create a REST API with Easel's name in front of a function; return its id."""
    apis = world.client("apigateway")
    api: str = apis.create_rest_api(name="easel")["id"]
    root = apis.get_resources(restApiId=api)["items"][0]["id"]
    method = {"restApiId": api, "resourceId": root, "httpMethod": "GET"}
    apis.put_method(**method, authorizationType="NONE")
    path = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions"
    apis.put_integration(
        **method,
        type="AWS_PROXY",
        integrationHttpMethod="POST",
        uri=f"{path}/{function}/invocations",
    )
    return api


def only_config(world):
    """Return the account's only endpoint configuration."""
    (name,) = names(world, "EndpointConfig")
    config: dict[str, Any] = world.client("sagemaker").describe_endpoint_config(
        EndpointConfigName=name
    )
    return config


def names(world, kind):
    """Return the names of SageMaker's `Endpoint`s, `EndpointConfig`s or `Model`s."""
    operation = {"Endpoint": "endpoints", "EndpointConfig": "endpoint_configs", "Model": "models"}
    response: dict[str, Any] = getattr(world.client("sagemaker"), f"list_{operation[kind]}")()
    return [item[f"{kind}Name"] for item in response[f"{kind}s"]]


def gateway_variables(world):
    """Return the environment variables of the gateway's function."""
    function = world.client("lambda").get_function_configuration(FunctionName="easel-main")
    return function["Environment"]["Variables"]


def stored(account, prefix=""):
    """Return the keys in the deployment's bucket below a prefix.

    Args:
        account: a `World`, or `boto3` for an account over HTTP.
        prefix: of the keys.
    """
    listed = account.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return [item["Key"] for item in listed.get("Contents", [])]


def fetch_png(_url, **_key):
    """Answer any address with a picture."""
    return PNG


def draw_picture(path, number, size=(512, 512)):
    """Write a picture to train with, one for each number."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for step in range(number + 2):
        draw.ellipse((40 * step, 25 * number, 90 + 60 * step, 300 + 30 * step), fill=(9, step, 77))
    image.save(path)
