"""Where moto 5.2.5 is not enough, bridged in one place.

Each function names the limitation. `install` puts them all in, once per process.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any
from urllib.parse import parse_qs

from moto import backends
from moto.apigateway.models import APIGatewayBackend, apigateway_backends
from moto.core import errors
from moto.s3.models import FakeKey
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpointConfig, SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse
from moto.servicequotas.responses import ServiceQuotasResponse
from werkzeug.wrappers import Request, Response

from endpoint.emulator.sagemaker.control_plane import ACCOUNT, remember

WSGI = Callable[[dict[str, Any], Any], Iterable[bytes]]


@cache
def install() -> None:
    """Patch moto's classes."""
    _accept_new_instance_types()
    _remember_what_endpoints_are_made_of()
    _accept_chalice_documents()
    _list_quotas()
    _accept_instance_pools()
    _update_endpoints()
    _look_up_once()
    _forget_objects()


def _look_up_once() -> None:
    """Moto lists its own folders at each call, and indexes a service's errors at each error.

    A crowd that waits for pictures asks S3 again and again for what is not there yet.
    """
    modules = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules
    factory = errors.ErrorLookupFactory()
    vars(errors)["ErrorLookupFactory"] = lambda: factory


def _forget_objects() -> None:
    """Moto keeps every S3 object that there ever was in a list, for its dashboard and its tests.

    So an emulator that runs for long grows with each picture, deleted or not.
    """

    class Forgetful(list[FakeKey]):
        def append(self, _: FakeKey) -> None:
            """Keep nothing."""

    tracked: Any = FakeKey
    tracked.instances_tracked = Forgetful()
    # Without the warning that a replaced object was not closed by hand.
    tracked.__del__ = FakeKey.dispose


def _accept_new_instance_types() -> None:
    """Moto's list of instance types ends before g5, g6, g6e and inf2."""

    def validate(_: FakeEndpointConfig, instance_type: str) -> None:
        if not re.fullmatch(r"ml\.[a-z0-9-]+\.[a-z0-9]+", instance_type):
            raise ValidationError(message=f"{instance_type} is not an instance type.")

    _replace(FakeEndpointConfig, "validate_instance_type", lambda _: validate)


def _remember_what_endpoints_are_made_of() -> None:
    """Moto makes an endpoint twice under one name, and forgets its configuration's async part."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def create(
            self: SageMakerModelBackend, endpoint_name: str, endpoint_config_name: str, tags: Any
        ) -> Any:
            if endpoint_name in self.endpoints:
                arn = self.endpoints[endpoint_name].arn
                raise ValidationError(message=f'Cannot create already existing endpoint "{arn}".')
            endpoint: Any = original(self, endpoint_name, endpoint_config_name, tags)
            endpoint.created_with = remember(self, endpoint_config_name)
            # DescribeEndpoint shows it too, which moto leaves out.
            endpoint.async_inference_config = endpoint.created_with.async_config
            return endpoint

        return create

    _replace(SageMakerModelBackend, "create_endpoint", wrap)


def _accept_chalice_documents() -> None:
    """Moto imports OpenAPI 3 only, and needs a description and a mock integration's address.

    Chalice writes Swagger 2.0 without either.
    """
    _replace(
        APIGatewayBackend,
        "import_rest_api",
        lambda original: lambda self, doc, warn: original(self, _as_openapi(doc), warn),
    )
    _replace(
        APIGatewayBackend,
        "put_rest_api",
        lambda original: (
            lambda self, api, api_doc, fail_on_warnings, mode="merge": original(
                self, api, _as_openapi(api_doc), fail_on_warnings, mode
            )
        ),
    )


def _as_openapi(document: dict[str, Any]) -> dict[str, Any]:
    document = {key: value for key, value in document.items() if key != "swagger"}
    document.setdefault("openapi", "3.0.1")
    document["info"] = {"description": "", **document.get("info", {})}
    for methods in document["paths"].values():
        for method in methods.values():
            integration = method.get("x-amazon-apigateway-integration", {})
            if integration.get("type") == "mock":
                integration.setdefault("uri", "")
                integration.setdefault("httpMethod", "OPTIONS")
    return document


# What the emulated account may have: generous, so that nothing but a test's own quota stops it.
QUOTAS: dict[str, float] = {}
_DEFAULT_QUOTA = 2.0


def _list_quotas() -> None:
    """Moto knows the quotas of VPC alone; `QUOTAS` holds SageMaker's, by instance type."""

    def list_service_quotas(self: ServiceQuotasResponse) -> str:
        asked = json.loads(self.body)
        if asked.get("ServiceCode") != "sagemaker":
            return json.dumps({"Quotas": []})
        types = {"ml.g4dn.xlarge", "ml.g5.xlarge", "ml.g6.xlarge", "ml.g6e.xlarge", *QUOTAS}
        return json.dumps({"Quotas": [_quota(name) for name in sorted(types)]})

    # Added, not replaced: moto has no such method.
    ServiceQuotasResponse.list_service_quotas = list_service_quotas  # type: ignore[attr-defined]


def _quota(instance_type: str) -> dict[str, Any]:
    return {
        "ServiceCode": "sagemaker",
        "ServiceName": "Amazon SageMaker",
        "QuotaName": f"{instance_type} for endpoint usage",
        "QuotaCode": "L-" + instance_type.encode().hex().upper()[-8:],
        "Value": QUOTAS.get(instance_type, _DEFAULT_QUOTA),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }


def _accept_instance_pools() -> None:
    """Moto wants an InstanceType in every variant; several may stand in InstancePools instead."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def validate(self: FakeEndpointConfig, production_variants: list[dict[str, Any]]) -> None:
            pools = [pool for each in production_variants for pool in each.get("InstancePools", [])]
            for pool in pools:
                self.validate_instance_type(pool["InstanceType"])
            original(self, [each for each in production_variants if "InstancePools" not in each])

        return validate

    _replace(FakeEndpointConfig, "validate_production_variants", wrap)


def _update_endpoints() -> None:
    """Moto cannot update an endpoint; here it has its new configuration at once."""

    def update_endpoint(self: SageMakerResponse) -> str:
        asked = json.loads(self.body)
        backend = self.sagemaker_backend
        endpoint = backend.endpoints.get(asked["EndpointName"])
        if endpoint is None:
            raise ValidationError(message=f'Could not find endpoint "{asked["EndpointName"]}".')
        name = asked["EndpointConfigName"]
        config = backend.describe_endpoint_config(name)
        endpoint.endpoint_config_name = name
        endpoint.production_variants = endpoint._process_production_variants(
            config["ProductionVariants"]
        )
        vars(endpoint)["created_with"] = remember(backend, name)
        return json.dumps({"EndpointArn": endpoint.arn})

    SageMakerResponse.update_endpoint = update_endpoint  # type: ignore[attr-defined]


_PASSED_OVER = {"AWS::S3::BucketPolicy", "AWS::Budgets::Budget"}


@cache
def pass_over_in_stacks() -> None:
    """Moto's CloudFormation warns of resources that it cannot make; some are taken as made.

    Not part of `install`: moto's CloudFormation is half of moto, and slow to import.
    """
    from moto.cloudformation import parsing
    from moto.core.common_models import CloudFormationModel

    class Nothing(CloudFormationModel):
        physical_resource_id = "nothing"

        @staticmethod
        def cloudformation_name_type() -> str:
            return ""

        @classmethod
        def create_from_cloudformation_json(cls, *_: Any, **__: Any) -> Nothing:
            return cls()

        @classmethod
        def update_from_cloudformation_json(cls, *_: Any, **__: Any) -> Nothing:
            return cls()

        @classmethod
        def delete_from_cloudformation_json(cls, *_: Any, **__: Any) -> None:
            """Leave nothing."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda resource_type: (
            Nothing if resource_type in _PASSED_OVER else original(resource_type)
        )

    _replace(parsing, "resource_class_from_type", wrap)


def _replace(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Any]) -> None:
    setattr(owner, name, wrap(getattr(owner, name)))


class Shimmed:
    """WSGI in front of moto, for what its responses lack."""

    def __init__(self, moto: WSGI) -> None:
        self._moto = moto
        self._one_at_a_time = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        if _is_simulation(request):
            return _DENIED(environ, start_response)
        if request.method == "PUT" and (found := _TAGGED_API.fullmatch(request.path)):
            return _tag_api(found[1], found[2], request)(environ, start_response)
        if "/cloudformation/" in request.headers.get("Authorization", ""):
            pass_over_in_stacks()
        if request.headers.get("X-Amz-Target", "").startswith("SageMaker.Describe"):
            return _without_empty(self._moto, request)(environ, start_response)
        if _is_conditional_write(request):
            with self._one_at_a_time:
                return self._moto(environ, start_response)
        return self._moto(environ, start_response)


_TAGGED_API = re.compile(r"/tags/arn:aws:apigateway:([a-z0-9-]+)::/restapis/([a-z0-9]+)")


def _tag_api(region: str, api: str, request: Request) -> Response:
    """Moto cannot tag a REST API that is there already."""
    found = apigateway_backends[ACCOUNT][region].get_rest_api(api)
    found.tags = {**(found.tags or {}), **json.loads(request.get_data())["tags"]}
    return Response(status=204)


def _is_conditional_write(request: Request) -> bool:
    """Moto checks a write's condition and then writes, and lets another write come between."""
    names = ("If-None-Match", "If-Match")
    return request.method == "PUT" and any(name in request.headers for name in names)


def _is_simulation(request: Request) -> bool:
    """Moto has no SimulatePrincipalPolicy; the SageMaker SDK only warns where it is denied."""
    if request.mimetype != "application/x-www-form-urlencoded":
        return False
    body = request.get_data(cache=True).decode("utf-8", "replace")
    _rewind(request)
    return parse_qs(body).get("Action") == ["SimulatePrincipalPolicy"]


_DENIED = Response(
    '<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type>'
    "<Code>AccessDenied</Code><Message>not authorized to perform: iam:SimulatePrincipalPolicy"
    "</Message></Error><RequestId>0</RequestId></ErrorResponse>",
    403,
    mimetype="text/xml",
)


def _without_empty(moto: WSGI, request: Request) -> Response:
    """Moto describes what was not given as empty objects, which SageMaker leaves out.

    The SageMaker SDK v3 refuses such a description.
    """
    response = Response.from_app(moto, request.environ)
    if response.status_code == 200 and response.data:
        full: dict[str, Any] = json.loads(response.data)
        response.data = json.dumps({k: v for k, v in full.items() if v not in ({}, [], None, "")})
    return response


def _rewind(request: Request) -> None:
    from io import BytesIO

    request.environ["wsgi.input"] = BytesIO(request.get_data(cache=True))
