"""An emulated account with an asynchronous endpoint, for batches: over HTTP, with a model server.

The endpoint is made by plain boto3, as `create` leaves it. Its model server is a double that paints
in a set time, and counts how often it is asked for each seed.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any

from endpoint.aws.scaling import Scaling
from endpoint.core.clock import Clock
from endpoint.emulator.aws_server import AwsServer
from endpoint.emulator.process.clients import Clients
from endpoint.emulator.process.http_server import QuietHandler
from tests.emulated_aws import empty_aws
from tests.endpoint.doubles import BUCKET, PNG
from tests.endpoint.world import ACCOUNT, IMAGE, REGION

MODEL = "sd"
ENDPOINT = f"easel-main-{MODEL}"
POISON = "poison"


class Ticking(Clock):
    """The system's clock, on which no wait is longer than a moment."""

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.1))


class ModelServer(ThreadingHTTPServer):
    """A model server that paints one picture at a time, and refuses the prompt `poison`.

    Attributes:
        seconds: that a picture takes.
        painted: how often each seed was asked for.
        busy: the seconds that it painted in all.
    """

    daemon_threads = True

    def __init__(self, seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seconds = seconds
        self.painted: Counter[int] = Counter()
        self.busy = 0.0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def serve(self) -> Iterator[ModelServer]:
        """Serve while the context lasts."""
        thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class _Handler(QuietHandler):
    server: ModelServer

    def do_POST(self) -> None:
        request = json.loads(self.body())
        with self.server.lock:
            began = time.perf_counter()
            self.server.painted[request["seed"]] += 1
            time.sleep(self.server.seconds)
            self.server.busy += time.perf_counter() - began
        if request["prompt"] == POISON:
            body = json.dumps({"error": {"code": "invalid_request", "message": "no"}}).encode()
            self.answer(422, [("Content-Type", "application/json")], body)
        else:
            self.answer(200, [("Content-Type", "image/png")], PNG)


@contextmanager
def account(
    seconds: float = 0.0, data: str = "", environment: dict[str, str] | None = None
) -> Iterator[tuple[AwsServer, ModelServer]]:
    """Serve AWS with the endpoint, in front of a model server that paints in `seconds`.

    Args:
        seconds: of a picture.
        data: the address of the model's files, for managed-spot jobs.
        environment: of the model's container.
    """
    with empty_aws() as aws, ModelServer(seconds).serve() as model:
        clients = Clients(lambda: aws.url)
        _create(clients, data or f"s3://{BUCKET}/models/{MODEL}/0/", environment or {})
        aws.registry.register(ENDPOINT, model.url)
        yield aws, model


def _create(clients: Clients, data: str, environment: dict[str, str]) -> None:
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": BUCKET}}
    clients.get("cloudformation", REGION).create_stack(
        StackName="easel-main",
        TemplateBody=json.dumps({"Resources": {"Bucket": bucket}}),
        Tags=[{"Key": "easel", "Value": "main"}],
    )
    sagemaker: Any = clients.get("sagemaker", REGION)
    source = {"S3Uri": data, "S3DataType": "S3Prefix", "CompressionType": "None"}
    version = f"{ENDPOINT}-0123abcd"
    sagemaker.create_model(
        ModelName=version,
        ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/easel",
        PrimaryContainer={
            "Image": IMAGE,
            "ModelDataSource": {"S3DataSource": source},
            "Environment": environment,
        },
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=version,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": version,
                "InstanceType": "ml.g5.xlarge",
                "InitialInstanceCount": 1,
            }
        ],
        AsyncInferenceConfig={
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1},
            "OutputConfig": {
                "S3OutputPath": f"s3://{BUCKET}/jobs/{MODEL}/outputs",
                "S3FailurePath": f"s3://{BUCKET}/jobs/{MODEL}/failures",
            },
        },
    )
    sagemaker.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName=version)
    scaling = Scaling(
        clients.get("application-autoscaling", REGION), clients.get("cloudwatch", REGION)
    )
    scaling.ensure(ENDPOINT, 1, "main")
