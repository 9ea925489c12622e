"""The gateway that `chalice deploy` put into moto, as API Gateway and Lambda serve it.

The API, its stage and its function are read from moto at each request, so that a change of code,
concurrency, throttling or error responses has an effect at once. What the function prints, and
Lambda's report of each invocation, go to its log group.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from moto.apigateway.models import apigateway_backends
from moto.core.exceptions import JsonRESTError

from endpoint.emulator.account import ACCOUNT
from endpoint.emulator.apigateway.api_gateway import INTEGRATION_SECONDS, ApiGateway
from endpoint.emulator.apigateway.api_gateway_document import Document
from endpoint.emulator.apigateway.gateway_responses import EXTENSION
from endpoint.emulator.apigateway.packaged_gateway import UNRESERVED
from endpoint.emulator.apigateway.proxy_event import HttpRequest, HttpResponse
from endpoint.emulator.lambda_.lambda_runtime import RUNTIME, LambdaFunction, Result
from endpoint.emulator.moto_.api_gateway import document_of
from endpoint.emulator.process.clients import Clients, environment
from endpoint.emulator.process.clock import Clock

_STREAM = "emulator"


@dataclass(frozen=True)
class _Served:
    """A gateway, and everything that it was made of."""

    made_of: str
    gateway: ApiGateway
    function: _Logged
    resources: ExitStack


class DeployedGateway:
    """Answers below the stage of the newest REST API.

    Args:
        url: returns the emulated AWS's address.
        clock: counts what throttling allows.
    """

    def __init__(self, url: Callable[[], str], clock: Clock) -> None:
        self._url, self._clock = url, clock
        self._lock = threading.Lock()
        self._served: _Served | None = None
        # How long API Gateway waits for the function; a test may shorten it.
        self.seconds = INTEGRATION_SECONDS

    def handles(self, path: str) -> bool:
        """Whether a path is below the stage of an API."""
        found = _newest()
        return found is not None and path.split("/")[1] in found.stages

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request whose path begins with the stage.

        Raises:
            LookupError: if the API is gone, or has no function.
        """
        api = _newest()
        if api is None:
            raise LookupError("no REST API")
        return self._current(api, request.path.split("/")[1]).gateway.answer(request)

    def invoke(self, name: str, event: Any) -> Result:
        """Invoke the function behind the newest API, as Lambda's Invoke does.

        Raises:
            LookupError: if no API has a function of this name.
            TooManyRequests: if all its instances are busy.
        """
        api = _newest()
        if api is None:
            raise LookupError("no REST API")
        function = self._current(api, next(iter(api.stages))).function
        if function.name != name:
            raise LookupError(f"the API's function is {function.name}")
        return function.invoke(event)

    def close(self) -> None:
        """End the function's instances."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._served is not None:
            self._served.resources.close()
        self._served = None

    def _current(self, api: Any, stage: str) -> _Served:
        template, function = _template(api, stage)
        code = function.code_sha_256
        made_of = json.dumps([template, code, self.seconds], default=str, sort_keys=True)
        with self._lock:
            if self._served is None or self._served.made_of != made_of:
                self._end()
                self._served = self._serve(made_of, template, function, api.region_name)
            return self._served

    def _serve(self, made_of: str, template: dict[str, Any], function: Any, region: str) -> _Served:
        if function.run_time != RUNTIME:
            raise LookupError(f"the function is for {function.run_time}, and this is {RUNTIME}")
        resources = ExitStack()
        package = Path(resources.enter_context(tempfile.TemporaryDirectory())) / "function.zip"
        package.write_bytes(function.code_bytes)
        log = package.with_name("log")
        log.touch()
        output = resources.enter_context(log.open("ab", buffering=0))
        settings = Document(template, package.parent)
        reserved = settings.function.reserved_concurrency
        instances = LambdaFunction(
            package,
            {**settings.function.environment, **environment(self._url(), region)},
            name=function.function_name,
            handler=settings.function.handler,
            timeout=settings.function.timeout,
            memory_size=settings.function.memory_size,
            concurrency=UNRESERVED if reserved is None else int(reserved),
            output=output,
        )
        logged = _Logged(resources.enter_context(instances), log, self._url, region)
        gateway = ApiGateway(settings, logged, seconds=self.seconds, clock=self._clock)
        return _Served(made_of, gateway, logged, resources)


def _newest() -> Any:
    """Return the newest of moto's REST APIs that has a stage; None if there is none."""
    apis = [
        api
        for backend in list(apigateway_backends[ACCOUNT].values())
        for api in list(backend.apis.values())
        if api.stages and document_of(api)
    ]
    # In the order of their creation within a region, which a second does not tell apart.
    return max(reversed(apis), key=lambda api: api.create_date, default=None)


def _template(api: Any, stage: str) -> tuple[dict[str, Any], Any]:
    """Return what `chalice package` would have written of an API, and moto's function behind it."""
    # Imported late: it takes a second, and few processes deploy.
    from moto.awslambda.models import lambda_backends

    document = document_of(api)
    uris = {
        str(method.get("x-amazon-apigateway-integration", {}).get("uri", ""))
        for methods in document["paths"].values()
        for method in methods.values()
    }
    arn = next((uri for uri in uris if ":function:" in uri), "")
    name = arn.partition(":function:")[2].partition("/")[0]
    try:
        function = lambda_backends[ACCOUNT][api.region_name].get_function(name)
    except JsonRESTError as error:
        raise LookupError(f"the API's function {name!r} does not exist") from error
    responses = {kind: _response(response) for kind, response in api.gateway_responses.items()}
    throttling = [
        _method_settings(place, limits)
        for place, limits in api.stages[stage].method_settings.items()
    ]
    resources = {
        "RestAPI": {
            "Type": "AWS::Serverless::Api",
            "Properties": {
                "DefinitionBody": {**document, EXTENSION: responses},
                "StageName": stage,
                "EndpointConfiguration": "REGIONAL",
                "MethodSettings": throttling,
            },
        },
        "APIHandler": {
            "Type": "AWS::Serverless::Function",
            "Properties": {
                "CodeUri": "function.zip",
                "Runtime": function.run_time,
                "Handler": function.handler,
                "Timeout": function.timeout,
                "MemorySize": function.memory_size,
                "Environment": {"Variables": function.environment_vars or {}},
                "ReservedConcurrentExecutions": function.reserved_concurrency,
            },
        },
    }
    return {"Resources": resources}, function


def _response(response: Any) -> dict[str, Any]:
    own = {
        "statusCode": response.status_code,
        "responseParameters": response.response_parameters,
        "responseTemplates": response.response_templates,
    }
    return {key: value for key, value in own.items() if value}


def _method_settings(place: str, limits: Mapping[str, Any]) -> dict[str, Any]:
    path, _, method = place.rpartition("/")
    return {
        "ResourcePath": "/*" if path == "*" else path.replace("~1", "/"),
        "HttpMethod": method,
        "ThrottlingRateLimit": limits["throttlingRateLimit"],
        "ThrottlingBurstLimit": limits["throttlingBurstLimit"],
    }


class _Logged:
    """A function whose output, and whose reports by Lambda, go to its log group, if it exists."""

    def __init__(
        self, function: LambdaFunction, log: Path, url: Callable[[], str], region: str
    ) -> None:
        self.name = function.name
        self._function, self._log, self._read = function, log, 0
        self._logs = Clients(url).get("logs", region)
        self._lock = threading.Lock()

    def invoke(self, event: object) -> Result:
        result = self._function.invoke(event)
        with self._lock:
            output = self._log.read_bytes()
            lines = output[self._read :].decode("utf-8", "replace").splitlines()
            self._read = len(output)
            with suppress(ClientError):  # there is no such group
                self._write([*lines, _report(result)])
        return result

    def _write(self, lines: list[str]) -> None:
        group = {"logGroupName": f"/aws/lambda/{self._function.name}", "logStreamName": _STREAM}
        with suppress(self._logs.exceptions.ResourceAlreadyExistsException):
            self._logs.create_log_stream(**group)
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": line} for line in lines if line]
        self._logs.put_log_events(**group, logEvents=events)


def _report(result: Result) -> str:
    """Return Lambda's own line of an invocation, as its developer guide shows it."""
    report = f"REPORT RequestId: {uuid.uuid4()}\tDuration: {result.duration * 1000:.2f} ms"
    if result.init_duration is not None:
        report += f"\tInit Duration: {result.init_duration * 1000:.2f} ms"
    return report
