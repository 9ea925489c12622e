"""The API that `chalice package` wrote: routes, stage, binary types, the function's settings.

Reads `sam.json` (AWS::Serverless::Api with a Swagger 2.0 DefinitionBody, and
AWS::Serverless::Function).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endpoint.emulator.apigateway.gateway_responses import EXTENSION
from endpoint.emulator.apigateway.throttling import from_template


@dataclass(frozen=True)
class Route:
    """A method of a resource.

    `path` is the resource's path with its placeholders, as `requestContext.resourcePath` has it.
    """

    path: str
    method: str
    integration: Mapping[str, Any]


@dataclass(frozen=True)
class Match:
    """The resource of a path, and its placeholders' values, still percent-encoded."""

    path: str
    parameters: dict[str, str]


@dataclass(frozen=True)
class Function:
    """The Lambda function's settings in the template."""

    package: Path
    runtime: str
    handler: str
    timeout: float
    memory_size: int
    environment: dict[str, str]
    reserved_concurrency: int | None


class Document:
    """A REST API as `sam.json` describes it.

    Attributes:
        stage: the stage's name, the first segment of every URL.
        binary_types: the API's binary media types.
        function: the handler of all routes.
        regional: whether the API is REGIONAL, else EDGE.
        responses: the API's own error responses, by their types.
        throttling: the limits of the stage's methods.
    """

    def __init__(self, template: Mapping[str, Any], folder: Path) -> None:
        resources: dict[str, Any] = template["Resources"]
        api = _only(resources, "AWS::Serverless::Api")
        body = api["DefinitionBody"]
        self.stage: str = api["StageName"]
        self.binary_types: list[str] = body.get("x-amazon-apigateway-binary-media-types", [])
        self.responses: Mapping[str, Any] = body.get(EXTENSION, {})
        self.throttling = from_template(api.get("MethodSettings", []))
        self.regional = "REGIONAL" in json.dumps(api.get("EndpointConfiguration", ""))
        self.function = _function(resources["APIHandler"]["Properties"], folder)
        self._routes = {
            (path, method.upper()): Route(
                path, method.upper(), details["x-amazon-apigateway-integration"]
            )
            for path, methods in body["paths"].items()
            for method, details in methods.items()
        }
        self._paths = sorted({path for path, _ in self._routes}, key=_literal_first)

    @classmethod
    def read(cls, folder: Path) -> Document:
        """Return the API in the folder that `chalice package FOLDER` wrote.

        Raises:
            FileNotFoundError: if sam.json is missing.
            KeyError: if it is not Chalice's.
        """
        return cls(json.loads((folder / "sam.json").read_text("utf-8")), folder)

    def match(self, path: str) -> Match | None:
        """Return the resource for a path below the stage, as it was sent.

        Literal segments take precedence over placeholders. One slash at the end makes no
        difference, and a placeholder never matches an empty segment.
        """
        # Seen on AWS by others: chalice issues 65 (slash at the end) and 588 (empty segment).
        segments = path.removesuffix("/").split("/")
        for candidate in self._paths:
            parameters = _match(candidate.removesuffix("/").split("/"), segments)
            if parameters is not None:
                return Match(candidate, parameters)
        return None

    def route(self, match: Match, method: str) -> Route | None:
        """Return the method of a resource, if it has it."""
        return self._routes.get((match.path, method)) or self._routes.get(
            # How Swagger writes the method ANY.
            (match.path, "X-AMAZON-APIGATEWAY-ANY-METHOD")
        )


def _only(resources: Mapping[str, Any], kind: str) -> dict[str, Any]:
    properties: dict[str, Any] = next(
        resource["Properties"] for resource in resources.values() if resource["Type"] == kind
    )
    return properties


def _function(properties: Mapping[str, Any], folder: Path) -> Function:
    variables = properties.get("Environment", {}).get("Variables", {})
    return Function(
        package=folder / properties["CodeUri"],
        runtime=properties["Runtime"],
        handler=properties["Handler"],
        timeout=properties["Timeout"],
        memory_size=properties["MemorySize"],
        # A reference to another resource has no value before the stack exists.
        environment={name: value for name, value in variables.items() if isinstance(value, str)},
        reserved_concurrency=properties.get("ReservedConcurrentExecutions"),
    )


def _literal_first(path: str) -> list[tuple[bool, str]]:
    return [(segment.startswith("{"), segment) for segment in path.split("/")]


def _match(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    # A greedy placeholder, `{path+}`, matches all remaining segments.
    if pattern and pattern[-1].endswith("+}") and len(segments) >= len(pattern):
        last = len(pattern) - 1
        segments = [*segments[:last], "/".join(segments[last:])]
    if len(pattern) != len(segments):
        return None
    parameters = {}
    for expected, segment in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            if not segment:
                return None
            parameters[expected.strip("{+}")] = segment
        elif expected != segment:
            return None
    return parameters
