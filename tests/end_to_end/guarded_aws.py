"""The emulated AWS, which allows the gateway and SageMaker what the policies of their roles allow.

A caller is known by its access key: the gateway's, and that of what SageMaker does for an endpoint.
What no policy allows is refused as AWS refuses it, so that a missing permission fails a test.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from werkzeug.wrappers import Request as Http
from werkzeug.wrappers import Response

from endpoint.emulator.aws_server import SAGEMAKER_KEY, AwsServer
from endpoint.emulator.sagemaker.errors import AccessDenied
from tests import iam, role_policies

GATEWAY_KEY = "easel-gateway"
# In a header, or in the query of a presigned URL.
_CREDENTIAL = re.compile(r"Credential=([^/&]+)/[^/]+/[^/]+/([^/]+)/aws4_request")
_INVOCATION = re.compile(r"/endpoints/([^/]+)/(async-)?invocations")
_S3 = {"GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject", "DELETE": "DeleteObject"}


class GuardedAws(AwsServer):
    """AWS with IAM.

    Attributes:
        policies: the policies of each access key; each of them has to allow a request.
        asked: the requests that each of them made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.policies = {
            # Either way of deploying the gateway gives it one of them.
            GATEWAY_KEY: [role_policies.of_role("GatewayRole"), role_policies.of_plain_chalice()],
            SAGEMAKER_KEY: [role_policies.of_role("EndpointRole")],
        }
        self.asked: defaultdict[str, set[iam.Request]] = defaultdict(set)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        http = Http(environ)
        caller, request = _read(http)
        if request is None or caller not in self.policies:
            return super().__call__(environ, start_response)
        if not self._allows(caller, request):
            return _denied(http)(environ, start_response)
        if request.action != "s3:GetObject":
            return super().__call__(environ, start_response)
        response = Response.from_app(super().__call__, environ)
        # Whoever may not list a bucket is not told that it lacks an object.
        if response.status_code == 404 and not self._allows(caller, _listing(request)):
            response = _denied(http)
        return response(environ, start_response)

    def _allows(self, caller: str, request: iam.Request) -> bool:
        self.asked[caller].add(request)
        return all(iam.allows(policy, request) for policy in self.policies[caller])


def _read(http: Http) -> tuple[str, iam.Request | None]:
    """Return who calls, and what for, as far as IAM decides on it here."""
    query = http.query_string.decode().replace("%2F", "/")
    found = _CREDENTIAL.search(http.headers.get("Authorization", "") + query)
    if not found:
        return "", None
    caller, service = found.groups()
    if service == "sagemaker" and (invoked := _INVOCATION.fullmatch(http.path)):
        action = "sagemaker:InvokeEndpointAsync" if invoked[2] else "sagemaker:InvokeEndpoint"
        return caller, iam.Request(action, iam.ARN.format("sagemaker", f"endpoint/{invoked[1]}"))
    if service == "s3":
        if "list-type" in http.args:
            prefix = {"s3:prefix": http.args.get("prefix", "")}
            bucket = f"arn:aws:s3:::{http.path.strip('/')}"
            return caller, iam.Request("s3:ListBucket", bucket, prefix)
        action = f"s3:{_S3[http.method]}"
        return caller, iam.Request(action, f"arn:aws:s3:::{http.path.lstrip('/')}")
    return caller, None


def _listing(request: iam.Request) -> iam.Request:
    bucket, _, key = request.resource.partition("/")
    # AWS takes the object's key for the prefix.
    return iam.Request("s3:ListBucket", bucket, {"s3:prefix": key})


def _denied(http: Http) -> Response:
    if http.path.startswith("/endpoints/"):
        return AccessDenied("User is not authorized to perform this action").response()
    body = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    return Response("" if http.method == "HEAD" else body, 403, mimetype="application/xml")
