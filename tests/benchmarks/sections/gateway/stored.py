"""Stored images: the time of a second request, next to a bare read from S3.

    python -m tests.benchmarks.sections.gateway.stored

The gateway runs in this process, with the real boto3 and the whole handler of its Lambda function,
in front of the emulated S3. The baseline reads the same object with the same client.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import app
from chalicelib.images.service import ImageService
from chalicelib.settings import Model, Settings
from endpoint.emulator.apigateway.proxy_event import HttpRequest, event
from endpoint.emulator.process.clients import Clients
from tests.benchmarks.lib.measuring import Samples, in_turns, milliseconds
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section
from tests.benchmarks.sections.gateway.asynchronous import emulated_aws
from tests.end_to_end.account import BUCKET, ENDPOINT, REGION
from tests.gateway.doubles import Provided

ROUNDS = 100
PREFIX = "pictures/sd/"
# Noise of this size is a file as large as a photograph of 1024x1024 pixels.
SIDE = 704
PATH = "/api/inference/noise"
TEXT = """\
A request for a URL whose image a real-time model has generated before, in the whole handler of the
Lambda function: routing, access, one read from S3, the check that the file is complete, and base64
for API Gateway. Next to it is a bare read of the same object, of 1.5 MB, by the same boto3 client,
in turns; the difference is what the gateway adds. S3 is the emulated one, on the same machine.
"""


class StoredImage:
    """The gateway in this process, with an image that is stored already.

    Args:
        url: of the emulated AWS.
    """

    def __init__(self, url: str) -> None:
        clients = Clients(lambda: url)
        self._s3 = clients.get("s3", REGION)
        runtime = clients.get("sagemaker-runtime", REGION)
        model = Model("sd", ENDPOINT, pictures=(BUCKET, PREFIX))
        settings = Settings({"sd": model}, 24, log_prompts=False)
        service = ImageService(settings, Provided(runtime), Provided(self._s3))
        # The handler reads them from the environment only once.
        app.settings = lambda: settings
        app.images = lambda: service
        self.size = len(base64.b64decode(_body(self._visit())))
        listed = self._s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}outputs/")
        (self._key,) = [each["Key"] for each in listed["Contents"]]

    def visit(self) -> None:
        """Request the image from the handler."""
        _body(self._visit())

    def revalidate(self) -> None:
        """Request it as a client that has it already."""
        tag = self._visit()["headers"]["ETag"]
        if self._visit(("If-None-Match", tag))["statusCode"] != 304:
            raise RuntimeError("not recognised")

    def read(self) -> None:
        """Read the object alone."""
        self._s3.get_object(Bucket=BUCKET, Key=self._key)["Body"].read()

    def _visit(self, *headers: tuple[str, str]) -> dict[str, Any]:
        query = f"seed=1&width={SIDE}&height={SIDE}"
        sent = HttpRequest(
            "GET",
            PATH,
            query,
            [("Host", "localhost"), ("Accept", "*/*"), *headers],
            b"",
            "192.0.2.1",
        )
        result: dict[str, Any] = app.app(
            event(
                sent,
                stage="api",
                resource="/inference/{text}",
                below_stage=PATH.removeprefix("/api"),
                parameters={"text": "noise"},
                binary_types=["*/*"],
            ),
            None,
        )
        return result


def _body(result: dict[str, Any]) -> str:
    if result["statusCode"] != 200:
        raise RuntimeError(f"no image: {result}")
    body: str = result["body"]
    return body


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    with emulated_aws() as (url, _):
        stored = StoredImage(url)
        actions: dict[str, Callable[[], None]] = {"visit": stored.visit, "read": stored.read}
        for action in actions.values():  # connections and imports
            action()
        measured = in_turns(
            {name: lambda action=action: milliseconds(action) for name, action in actions.items()},
            3 if quick else ROUNDS,
        )
        stored.revalidate()
        return report(measured, stored.size)


def report(measured: dict[str, Samples], size: int) -> Section:
    """Return the section."""
    row = Row(
        "a request for a stored image",
        "ms",
        Figure.of(measured["visit"]),
        "a bare read from S3",
        Figure.of(measured["read"]),
        Aim("difference", at_most=10),
        note=f"{size:,} bytes",
    )
    return Section("Stored images", TEXT, (row,), packages=("boto3", "moto"))


if __name__ == "__main__":
    print_section(section)
