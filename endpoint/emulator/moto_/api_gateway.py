"""API Gateway: importing what Chalice writes, and tagging."""

from __future__ import annotations

import json
import re
from typing import Any

from moto.apigateway.models import APIGatewayBackend, RestAPI, apigateway_backends
from werkzeug.wrappers import Request, Response

from endpoint.emulator.account import ACCOUNT
from endpoint.emulator.moto_.patching import replace


def install() -> None:
    """Accept what Chalice writes: Swagger 2.0 without a description or a mock integration's URI.

    moto 5.2.5 imports OpenAPI 3 only, and requires both.
    """
    replace(
        APIGatewayBackend,
        "import_rest_api",
        lambda original: lambda self, doc, warn: original(self, _as_openapi(doc), warn),
    )
    replace(APIGatewayBackend, "put_rest_api", _put)


def _put(original: Any) -> Any:
    def put(self: APIGatewayBackend, api: str, api_doc: Any, **options: Any) -> RestAPI:
        put_api: RestAPI = original(self, api, _as_openapi(api_doc), **options)
        # moto keeps the parts that it knows.
        vars(put_api)["document"] = api_doc
        return put_api

    return put


def document_of(api: RestAPI) -> dict[str, Any]:
    """Return the document that an API was imported from; empty if it was made by calls."""
    document: dict[str, Any] = vars(api).get("document", {})
    return document


def _as_openapi(document: dict[str, Any]) -> dict[str, Any]:
    # A copy: the caller still owns the document.
    document = {key: value for key, value in document.items() if key != "swagger"}
    document.setdefault("openapi", "3.0.1")
    document["info"] = {"description": "", **document.get("info", {})}
    for methods in document["paths"].values():
        for method in methods.values():
            integration = method.get("x-amazon-apigateway-integration", {})
            if integration.get("type") == "mock":
                integration.setdefault("uri", "")
                # moto requires both, though a mock has no backend.
                integration.setdefault("httpMethod", "OPTIONS")
    return document


_TAGGED_API = re.compile(r"/tags/arn:aws:apigateway:[a-z0-9-]+::/restapis/[a-z0-9]+")


def is_tagging(request: Request) -> bool:
    """Whether a request tags an existing REST API, which moto cannot do."""
    return request.method == "PUT" and _TAGGED_API.fullmatch(request.path) is not None


def tag(request: Request) -> Response:
    """Add the tags of such a request to the API."""
    tag_api(request.path.removeprefix("/tags/"), json.loads(request.get_data())["tags"])
    return Response(status=204)


def tag_api(arn: str, tags: dict[str, str]) -> None:
    """Add tags to the REST API with this ARN."""
    region, api = arn.removeprefix("arn:aws:apigateway:").split("::/restapis/")
    backend = apigateway_backends[ACCOUNT][region].get_rest_api(api)
    backend.tags = {**(backend.tags or {}), **tags}
