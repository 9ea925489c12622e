"""A packaged gateway as on AWS: `sam.json` and its zip behind API Gateway and in Lambda."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from endpoint.emulator.apigateway.api_gateway import INTEGRATION_SECONDS, ApiGateway
from endpoint.emulator.apigateway.api_gateway_document import Document
from endpoint.emulator.apigateway.throttling import MethodSettings
from endpoint.emulator.lambda_.lambda_runtime import RUNTIME, LambdaFunction
from endpoint.emulator.process.clock import Clock
from endpoint.emulator.process.http_server import Server

# Lambda's quota for an account: 10 in a new one; the usual 1,000 are more than a laptop can run.
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
UNRESERVED = 10


class WrongPython(Exception):
    """The package needs another version of Python."""


@contextmanager
def serve(
    package: Path,
    port: int = 0,
    environment: Mapping[str, str] | None = None,
    *,
    seconds: float = INTEGRATION_SECONDS,
    throttling: MethodSettings | None = None,
    clock: Clock | None = None,
) -> Iterator[Server]:
    """Serve the output of `chalice package PACKAGE` on 127.0.0.1:`port` while the context lasts.

    Args:
        package: the folder with sam.json and the zip.
        port: 0 for any free one.
        environment: the function's variables, added to the template's own.
        seconds: how long the gateway waits for the function.
        throttling: the limits of the stage's methods, in place of the template's.
        clock: counts what throttling allows.

    Raises:
        FileNotFoundError: if nothing was packaged there.
        WrongPython: if it was packaged for another Python than this one.
        OSError: when the port is taken.
    """
    document = Document.read(package)
    document.throttling = document.throttling if throttling is None else throttling
    settings = document.function
    if settings.runtime != RUNTIME:
        # This Python would pass over the bytecode in the zip, and so hide what it costs.
        raise WrongPython(f"the package is for {settings.runtime}, and this is {RUNTIME}")
    function = LambdaFunction(
        settings.package,
        {**settings.environment, **(environment or {})},
        handler=settings.handler,
        timeout=settings.timeout,
        memory_size=settings.memory_size,
        concurrency=settings.reserved_concurrency or UNRESERVED,
    )
    gateway = ApiGateway(document, function, seconds=seconds, clock=clock)
    with function, gateway.serve(port) as server:
        yield server
