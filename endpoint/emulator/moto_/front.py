"""WSGI in front of moto, for what its responses lack."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from werkzeug.wrappers import Request, Response

from endpoint.emulator.moto_ import api_gateway, post_policy
from endpoint.emulator.moto_.stacks import cloudformation

WSGI = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Front:
    """A WSGI application that answers what moto cannot, and passes the rest to moto."""

    def __init__(self, moto: WSGI) -> None:
        self._moto = moto
        # One lock for all keys is enough: tests make few conditional writes.
        self._one_at_a_time = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        if _is_simulation(request):
            return _DENIED(environ, start_response)
        if post_policy.is_form(request):
            return _upload(self._moto, request)(environ, start_response)
        if api_gateway.is_tagging(request):
            return api_gateway.tag(request)(environ, start_response)
        # The service is in the scope of the signature, and the template may be in a form post.
        if "/cloudformation/" in request.headers.get("Authorization", ""):
            cloudformation.install()
        if request.headers.get("X-Amz-Target", "").startswith("SageMaker.Describe"):
            return _without_empty(self._moto, request)(environ, start_response)
        if _is_conditional_write(request):
            with self._one_at_a_time:
                return self._moto(environ, start_response)
        return self._moto(environ, start_response)


def _upload(moto: WSGI, request: Request) -> Response:
    request.get_data(cache=True, parse_form_data=False)
    try:
        post_policy.check(request)
    except post_policy.Refused as refused:
        response = refused.response()
    else:
        _rewind(request)
        response = Response.from_app(moto, request.environ)
    finally:
        request.close()
    # moto lets all pages read its answers; S3 those that the bucket names.
    response.headers.pop("Access-Control-Allow-Origin", None)
    response.headers.update(post_policy.cors_headers(request))
    return response


def _is_conditional_write(request: Request) -> bool:
    """Whether moto needs a lock: it checks the condition first and writes later."""
    names = ("If-None-Match", "If-Match")
    return request.method in {"PUT", "DELETE"} and any(name in request.headers for name in names)


def _is_simulation(request: Request) -> bool:
    """Moto has no SimulatePrincipalPolicy; the SageMaker SDK only warns if it is denied."""
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
    """Moto describes unset members as empty objects, which SageMaker leaves out.

    The SageMaker SDK v3 rejects such a description.
    """
    response = Response.from_app(moto, request.environ)
    if response.status_code == 200 and response.data:
        full: dict[str, Any] = json.loads(response.data)
        response.data = json.dumps({k: v for k, v in full.items() if v not in ({}, [], None, "")})
    return response


def _rewind(request: Request) -> None:
    # moto reads the same stream again.
    request.environ["wsgi.input"] = io.BytesIO(request.get_data(cache=True))
