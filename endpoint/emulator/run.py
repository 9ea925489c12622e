"""Runs Easel on this machine: AWS, the model and the gateway, until Ctrl-C.

Plain boto3 creates everything as on AWS: a role, a model, an endpoint configuration, an endpoint.
Only the address of the calls differs.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import urllib3

from endpoint.core.problems import ScriptError
from endpoint.emulator import local_pictures
from endpoint.emulator.account import TRUST
from endpoint.emulator.aws_server import AwsServer
from endpoint.emulator.container import easel_server
from endpoint.emulator.container.easel_server import EaselServer
from endpoint.emulator.container.local_image import Engine, NoImage, find_engine
from endpoint.emulator.lambda_.functions import INVOCATIONS
from endpoint.emulator.local_training import FUNCTION, offer_training
from endpoint.emulator.process.clients import Clients, environment, forget_aws
from endpoint.emulator.process.processes import (
    LARGEST_PORT,
    ROOT,
    Child,
    ChildEnded,
    free_port,
    port_is_free,
)
from endpoint.emulator.served_model import NoModel, ServedModel, choose, require_usable
from endpoint.provision.files.payload import adapters_prefix
from endpoint.provision.model_metadata import described_metadata, description
from endpoint.provision.settings_check import check_container, check_gateway

REGION = "us-east-1"
BUCKET = "easel-local"
CODE = ROOT / "model_package" / "code"
# As `create_endpoint` sets them: one model on one GPU, and pictures above the server's own limit of
# 6.5 MB.
CONTAINER = {
    "SAGEMAKER_PROGRAM": "inference.py",
    "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
    "MMS_MAX_RESPONSE_SIZE": "104857600",
    "MMS_MAX_REQUEST_SIZE": "26214400",
}
# OpenMP's threads spin while they wait for one another. On a busy machine a picture of the demo
# model took up to 23 s instead of 0.7.
_PASSIVE_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
# Loading Stable Diffusion from a laptop's disk takes a minute; fetching it may take an hour.
WARM_UP_SECONDS = 2 * 3600.0
GATEWAY_SECONDS = 60.0
_TRIM_SECONDS = 30.0


class CannotRun(RuntimeError):
    """Easel cannot start or continue; the message gives the reason and the remedy."""


@dataclass(frozen=True)
class Options:
    """The options of the command line.

    Attributes:
        port: the gateway's.
        aws_port: the emulated AWS's; 0 takes any free one.
        model: a folder, a hub repository, a name of the catalogue, or None.
        gateway: the folder of the Chalice application.
        code: the folder of inference.py.
        image: `local` for a container of the serving image, None for a process.
    """

    port: int = 8000
    aws_port: int = 0
    model: str | None = None
    gateway: Path = ROOT / "gateway"
    code: Path = CODE
    image: str | None = None


def run(options: Options) -> int:
    """Serve until Ctrl-C or SIGTERM; return the process's exit code."""
    forget_aws(os.environ)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    try:
        with ExitStack() as stack:
            children, s3 = _start(options, stack)
            print(f"Easel is at http://127.0.0.1:{options.port}/api/", flush=True)
            trimmed = time.monotonic()
            while True:
                for child in children:
                    child.check()
                time.sleep(0.2)
                if time.monotonic() - trimmed > _TRIM_SECONDS:
                    local_pictures.trim(s3, BUCKET)
                    trimmed = time.monotonic()
    except (CannotRun, NoModel, NoImage, ChildEnded, TimeoutError) as error:
        print(f"Easel: {error}", file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        reason = f"{error.filename or 'a file'} cannot be used: {error.strerror or error}"
        print(f"Easel: {reason}", file=sys.stderr, flush=True)
        return 1
    except _Ended as ended:
        print("Easel has ended.", flush=True)
        return ended.code


class _Ended(BaseException):
    """A signal asked for the end. A BaseException, so that no `except Exception` stops it.

    Attributes:
        code: the process's exit code: 130 after Ctrl-C, as shells report it.
    """

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__()


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    # A second Ctrl-C must not interrupt the cleaning up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise _Ended(130 if number == signal.SIGINT else 0)


def _start(options: Options, stack: ExitStack) -> tuple[list[Child], Any]:
    """Start everything; return what has to go on running, and a client of the emulated S3."""
    for port, lowest, option in ((options.port, 1, "--port"), (options.aws_port, 0, "--aws-port")):
        if not lowest <= port <= LARGEST_PORT:
            raise CannotRun(f"{option} {port} is no port: ports are {lowest} to {LARGEST_PORT}")
        if not port_is_free(port):
            raise CannotRun(f"port {port} is in use; choose another with {option}")
    if options.port == options.aws_port:
        raise CannotRun(f"--port and --aws-port are both {options.port}; choose another for one")
    for folder, file in ((options.code, "inference.py"), (options.gateway, "app.py")):
        if not (folder / file).is_file():
            raise CannotRun(f"no {file} in {folder}")
    model = choose(options.model)
    _check_settings(options, model)
    # Other serving code, with --code, may have other models.
    if (options.code / "easel").is_dir():
        require_usable(model, os.environ)
    engine = _engine(options)
    # SageMaker's names have at most 63 letters, digits and hyphens.
    endpoint = f"easel-{model.name}"[:63].rstrip("-_.").replace(".", "-").replace("_", "-")
    port, aws_port = free_port(), options.aws_port or free_port()
    # In a container, 127.0.0.1 would not be this machine.
    adapters = "" if engine else _adapters(model)
    of_aws = environment(f"http://127.0.0.1:{aws_port}", REGION)
    of_container = {**of_aws, "EASEL_LORAS_FROM": adapters} if adapters else {}
    # First, since it takes longest: it loads the model while the rest of AWS gets ready.
    server = _model_server(options, model, port, engine, of_container)
    stack.enter_context(server.child)
    aws = stack.enter_context(AwsServer().serve(aws_port))
    print(f"AWS is emulated at {aws.url}", flush=True)
    clients = Clients(lambda: aws.url)
    links = _for_links(clients)
    create_endpoint(clients, endpoint, {**CONTAINER, **model.environment})
    aws.registry.register(endpoint, f"http://127.0.0.1:{port}")
    runtime = clients.get("sagemaker-runtime", REGION)
    _warm_up(runtime, endpoint, server, model)
    variables = environment(aws.url, REGION)
    described = _describe(runtime, endpoint)
    pictures = {"pictures": local_pictures.place(BUCKET, model.name)}
    offered = {model.name: {"endpoint": endpoint, **pictures, **_metadata(described, adapters)}}
    variables["EASEL_MODELS"] = json.dumps(offered)
    variables["EASEL_DESCRIPTIONS"] = json.dumps({model.name: _description(described)})
    variables |= links
    # Adapters from there are used at once; in a container of `--image local` they are not.
    trained = adapters and offer_training(clients, REGION, BUCKET, model)
    variables |= {"EASEL_TRAINING": trained} if trained else {}
    aws.functions.replace(FUNCTION, f"http://127.0.0.1:{options.port}{INVOCATIONS}")
    # Again, with what the model says of itself: a gateway that cannot read it would never be ready.
    _check_gateway(options, {name: variables[name] for name in variables if "EASEL" in name})
    gateway = stack.enter_context(_gateway(options, variables))
    health = f"http://127.0.0.1:{options.port}/api/health"
    gateway.wait_until(lambda: _healthy(health), GATEWAY_SECONDS)
    return [server.child, gateway], clients.get("s3", REGION)


def _adapters(model: ServedModel) -> str:
    """Return where adapters are published while all of this runs; empty if that is set already."""
    if os.environ.get("EASEL_LORAS_FROM"):
        return ""
    return f"s3://{BUCKET}/{adapters_prefix(model.name)}"


def _check_settings(options: Options, model: ServedModel) -> None:
    """Have gateway and model read the person's settings, before the model is loaded.

    Raises:
        CannotRun: for the first that cannot be read.
    """
    _check_gateway(
        options, {"EASEL_MODELS": json.dumps({model.name: {"endpoint": "e"}}), **_secret()}
    )
    # Other code, as in a test, can have other settings.
    if (options.code / "easel" / "settings.py").is_file():
        with _as_cannot_run():
            check_container({**_own(), **model.environment}, folder=options.code.resolve())


def _check_gateway(options: Options, variables: Mapping[str, str]) -> None:
    """Have the gateway read the person's settings and `variables`; raises CannotRun."""
    if (options.gateway / "chalicelib" / "settings.py").is_file():
        own = _own()
        names = {name: name for name in own}  # not the options of `deploy`
        with _as_cannot_run():
            check_gateway({**own, **variables}, folder=options.gateway.resolve(), names=names)


def _own() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("EASEL_")}


@contextmanager
def _as_cannot_run() -> Iterator[None]:
    try:
        yield
    except ScriptError as error:
        raise CannotRun(f"{error} {error.advice}".strip()) from error


def create_endpoint(clients: Clients, name: str, container: Mapping[str, str]) -> None:
    """Create a real-time endpoint in the emulated account, with its role and model."""
    iam, sagemaker = clients.get("iam", REGION), clients.get("sagemaker", REGION)
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=role["Role"]["Arn"],
        # No container is started, so the image is never read.
        PrimaryContainer={"Image": "emulated", "Environment": dict(container)},
    )
    variant: dict[str, Any] = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InstanceType": "ml.g5.xlarge",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)


def _for_links(clients: Clients) -> dict[str, str]:
    """Return the variables for links, usage and files, in case there are API keys."""
    clients.get("s3", REGION).create_bucket(Bucket=BUCKET)
    places = {
        "EASEL_LINKS": f"s3://{BUCKET}/links/",
        "EASEL_USAGE": f"s3://{BUCKET}/usage/",
        "EASEL_BATCHES": f"s3://{BUCKET}/",
    }
    return {**places, **_secret()}


def _secret() -> dict[str, str]:
    return {"EASEL_SECRET": os.environ.get("EASEL_SECRET") or secrets.token_urlsafe(32)}


def _engine(options: Options) -> Engine | None:
    """Return what runs the container, once its image exists; None without `--image`."""
    if not options.image:
        return None
    engine = find_engine()
    with _as_cannot_run():
        engine.require_image()
    return engine


def _model_server(
    options: Options,
    model: ServedModel,
    port: int,
    engine: Engine | None,
    more: Mapping[str, str],
) -> EaselServer:
    variables = {**_PASSIVE_THREADS, **os.environ, **CONTAINER, **model.environment, **more}
    code = options.code.resolve()
    if engine:
        child = engine.start(port, model.folder, None if code == CODE else code, variables)
        return EaselServer(f"http://127.0.0.1:{port}", child)
    return easel_server.start(code, model.folder, variables, port=port)


def _warm_up(runtime: Any, endpoint: str, server: EaselServer, model: ServedModel) -> None:
    """Invoke the endpoint, once its server is ready, until it answers."""
    print(f"Loading the model {model.name} ...", flush=True)
    until = time.monotonic() + WARM_UP_SECONDS
    while time.monotonic() < until:
        if server.child.process.poll() is not None:
            raise CannotRun(f"the model {model.name} could not be loaded; see the log above")
        if not server.ready():  # the log would have a 503 for each invocation
            time.sleep(0.2)
            continue
        try:
            runtime.invoke_endpoint(
                EndpointName=endpoint,
                Body=json.dumps({"prompt": "a warm-up", "steps": 1, "seed": 0}),
                ContentType="application/json",
                Accept="image/png",
            )
        except runtime.exceptions.ModelError as error:
            # 0: still loading after SageMaker's 60 s; 503: the server is not up yet.
            if error.response["OriginalStatusCode"] not in (0, 503):
                reason = error.response["OriginalMessage"].strip()
                raise CannotRun(f"the model {model.name} does not answer: {reason}") from error
            time.sleep(0.2)
        else:
            return
    raise CannotRun(f"the model {model.name} was not ready after {WARM_UP_SECONDS / 3600:g} h")


def _describe(runtime: Any, endpoint: str) -> dict[str, Any]:
    """Return what the model reports about itself; nothing if it cannot."""
    try:
        answer = runtime.invoke_endpoint(
            EndpointName=endpoint,
            Body=json.dumps({"describe": True}),
            ContentType="application/json",
            Accept="application/json",
        )
        described = json.loads(answer["Body"].read())
    except (runtime.exceptions.ModelError, ValueError):
        return {}  # with --code, a serving script need not support `describe`
    return described if isinstance(described, dict) else {}


def _description(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the model says about itself to people."""
    try:
        return description(described)
    except ValueError:
        return {}  # of other serving code


def _metadata(described: Mapping[str, Any], adapters: str) -> dict[str, Any]:
    """Return the defaults, the largest area, the adapters and the limits that the model reports.

    Args:
        described: what it reports.
        adapters: where it looks for others while it runs; empty for nowhere.
    """
    try:
        known = described_metadata(described, None)
    except ValueError:
        return {}  # of other serving code
    return {"loras": [], **known, "adapters": adapters} if adapters else known


def _gateway(options: Options, variables: Mapping[str, str]) -> Child:
    return Child(
        "the gateway",
        "endpoint.emulator.apigateway.local_gateway",
        [str(options.gateway.resolve()), str(options.port)],
        environment={**os.environ, **variables},
    )


def _healthy(url: str) -> bool:
    try:
        # Chalice refuses a request without Accept where every type counts as binary.
        headers = {"Accept": "application/json"}
        answer = urllib3.request("GET", url, headers=headers, retries=False, timeout=5.0)
    except urllib3.exceptions.HTTPError:
        return False
    return answer.status == 200
