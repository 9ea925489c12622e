"""Error responses of API Gateway's own, which an API can replace.

Source: "Gateway responses for REST APIs in API Gateway" in API Gateway's developer guide. Without a
template for its type, an error has API Gateway's own status and message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endpoint.emulator.apigateway.proxy_event import HttpResponse

EXTENSION = "x-amazon-apigateway-gateway-responses"
_HEADER = "gatewayresponse.header."
_JSON = "application/json"


def read_responses(template: Path) -> Mapping[str, Any]:
    """Return the responses in a template that `chalice package` merges, by their types."""
    resources = json.loads(template.read_text("utf-8"))["Resources"]
    responses: Mapping[str, Any] = resources["RestAPI"]["Properties"]["DefinitionBody"][EXTENSION]
    return responses


@dataclass(frozen=True)
class Failure:
    """An error of API Gateway's own.

    Attributes:
        status: HTTP's, unless the response has one of its own.
        message: API Gateway's.
        error: the value of `x-amzn-ErrorType`.
        type: of the gateway response that replaces it; None if an API cannot replace it.
    """

    status: int
    message: str
    error: str
    type: str | None = None


def render(
    failure: Failure, responses: Mapping[str, Any], *, domain: str, stage: str
) -> HttpResponse:
    """Return the response to an error.

    Args:
        failure: the error.
        responses: the API's own, by their types.
        domain: as `$context.domainName`.
        stage: as `$context.stage`.
    """
    own: Mapping[str, Any] = {}
    if failure.type is not None:
        default = "DEFAULT_4XX" if failure.status < 500 else "DEFAULT_5XX"
        own = responses.get(failure.type, responses.get(default, {}))
    headers = [("Content-Type", _JSON), ("x-amzn-ErrorType", failure.error)]
    for name, value in own.get("responseParameters", {}).items():
        headers.append((name.removeprefix(_HEADER), value.strip("'")))
    standard = json.dumps({"message": failure.message})
    body = own.get("responseTemplates", {}).get(_JSON, standard)
    for variable, value in (("domainName", domain), ("stage", stage)):
        body = body.replace(f"$context.{variable}", value)
    return HttpResponse(int(own.get("statusCode", failure.status)), headers, body.encode())


def unknown_path(
    responses: Mapping[str, Any], *, signed: bool, domain: str, stage: str
) -> HttpResponse:
    """Return the response for a path or a method that the API does not have.

    Args:
        responses: the API's own, by their types.
        signed: whether the request has an Authorization header. API Gateway takes it for an
            incomplete AWS signature then. That this has the type INVALID_SIGNATURE is assumed.
        domain: as `$context.domainName`.
        stage: as `$context.stage`.
    """
    if signed:
        kind, error = "INVALID_SIGNATURE", "IncompleteSignatureException"
        message = "Authorization header requires 'Credential' parameter."
    else:
        kind, error = "MISSING_AUTHENTICATION_TOKEN", "MissingAuthenticationTokenException"
        message = "Missing Authentication Token"
    return render(Failure(403, message, error, kind), responses, domain=domain, stage=stage)
