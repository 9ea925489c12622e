"""The emulated AWS, which allows the gateway and SageMaker what the policies of their roles allow.

A caller is known by its access key: the gateway's, and that of what SageMaker does for an endpoint.
What no policy allows is refused as AWS refuses it, so that a missing permission fails a test.
"""

from __future__ import annotations

import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

import botocore.session
from moto.sagemaker.models import sagemaker_backends
from werkzeug.wrappers import Request as Http
from werkzeug.wrappers import Response

from endpoint.emulator.aws_server import (
    EVENTS_KEY,
    PIPELINE_KEY,
    SAGEMAKER_KEY,
    TRAINING_KEY,
    AwsServer,
)
from endpoint.emulator.sagemaker.errors import AccessDenied
from tests.policies import iam, role_policies

GATEWAY_KEY = "easel-gateway"
# A gateway that trains has another policy besides.
TRAINING_GATEWAY_KEY = "easel-training-gateway"
# In a header, in the query of a presigned URL, or in a field of a form.
_CREDENTIAL = re.compile(r"([^/&=\s]+)/[^/]+/[^/]+/([^/]+)/aws4_request")
_INVOCATION = re.compile(r"/endpoints/([^/]+)/(async-)?invocations")
_FUNCTION = re.compile(r"/2015-03-31/functions/(.+)/invocations")
_S3 = {
    "GET": "GetObject",
    "HEAD": "GetObject",
    "PUT": "PutObject",
    "POST": "PutObject",  # the begin and the end of an upload in parts
    "DELETE": "DeleteObject",
}
_SCHEDULE = re.compile(r"/schedules/([^/]+)")
_OF_SCHEDULE = {
    "DELETE": "DeleteSchedule",
    "GET": "GetSchedule",
    "POST": "CreateSchedule",
    "PUT": "UpdateSchedule",
}


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
            TRAINING_GATEWAY_KEY: [role_policies.of_gateway_that_trains()],
            SAGEMAKER_KEY: [role_policies.of_role("EndpointRole")],
            TRAINING_KEY: [role_policies.of_role("TrainingRole")],
            PIPELINE_KEY: [role_policies.of_role("PipelineRole")],
            # What a rule calls a function with is the function's own policy.
            EVENTS_KEY: [
                {
                    "Statement": [
                        *role_policies.of_role("StartRuleRole")["Statement"],
                        {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "*"},
                    ]
                }
            ],
        }
        self.asked: defaultdict[str, set[iam.Request]] = defaultdict(set)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        http = Http(environ)
        form = _form(http)
        caller, service = _caller(http, form)
        requests = _read(http, service, form) if caller in self.policies else []
        if not requests:
            return super().__call__(environ, start_response)
        if not all(self._allows(caller, request) for request in requests):
            return _denied(http)(environ, start_response)
        if requests[0].action != "s3:GetObject":
            return super().__call__(environ, start_response)
        response = Response.from_app(super().__call__, environ)
        # Whoever may not list a bucket is not told that it lacks an object.
        if response.status_code == 404 and not self._allows(caller, _listing(requests[0])):
            response = _denied(http)
        return response(environ, start_response)

    def _allows(self, caller: str, request: iam.Request) -> bool:
        self.asked[caller].add(request)
        return all(iam.allows(policy, request) for policy in self.policies[caller])


def _caller(http: Http, form: dict[str, str]) -> tuple[str, str]:
    """Return the access key that signed a request, and the service that it is for."""
    query = http.query_string.decode().replace("%2F", "/")
    signed = http.headers.get("Authorization", "") + query + form.get("x-amz-credential", "")
    found = _CREDENTIAL.search(signed)
    return (found[1], found[2]) if found else ("", "")


def _read(http: Http, service: str, form: dict[str, str]) -> list[iam.Request]:
    """Return what a request is for, as far as IAM decides on it here."""
    if service == "sagemaker" and (invoked := _INVOCATION.fullmatch(http.path)):
        action = "sagemaker:InvokeEndpointAsync" if invoked[2] else "sagemaker:InvokeEndpoint"
        return [iam.Request(action, iam.ARN.format("sagemaker", f"endpoint/{invoked[1]}"))]
    if service == "sagemaker":
        return _of_sagemaker(http)
    if service == "scheduler":
        return _of_scheduler(http)
    if service == "lambda" and (invoked := _FUNCTION.fullmatch(http.path)):
        arn = iam.ARN.format("lambda", f"function:{invoked[1].rpartition(':')[2]}")
        return [iam.Request("lambda:InvokeFunction", arn)]
    return [_of_s3(http, form)] if service == "s3" else []


def _of_s3(http: Http, form: dict[str, str]) -> iam.Request:
    if form:
        arn = f"arn:aws:s3:::{http.path.strip('/')}/{form.get('key', '')}"
        return iam.Request("s3:PutObject", arn)
    if "list-type" in http.args:
        prefix = {"s3:prefix": http.args.get("prefix", "")}
        bucket = f"arn:aws:s3:::{http.path.strip('/')}"
        return iam.Request("s3:ListBucket", bucket, prefix)
    lists_parts = http.method == "GET" and "uploadId" in http.args
    action = f"s3:{'ListMultipartUploadParts' if lists_parts else _S3[http.method]}"
    return iam.Request(action, f"arn:aws:s3:::{http.path.lstrip('/')}")


def _of_sagemaker(http: Http) -> list[iam.Request]:
    """Return what IAM decides on for a call of SageMaker's control plane."""
    params = json.loads(_body(http) or b"{}")
    name = http.headers["X-Amz-Target"].rpartition(".")[2]
    operation = _service("sagemaker").operation_model(name)
    jobs = sagemaker_backends[iam.ACCOUNT][iam.REGION].training_jobs
    if operation.name == "CreateTrainingJob" or params.get("TrainingJobName") not in jobs:
        return iam.requests_of(operation, params)
    job = jobs[params["TrainingJobName"]]
    tags = {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in job.tags}
    return [
        iam.Request(each.action, each.resource, tags) for each in iam.requests_of(operation, params)
    ]


def _of_scheduler(http: Http) -> list[iam.Request]:
    """Return what IAM decides on for a call about one schedule."""
    operation = _service("scheduler").operation_model(_OF_SCHEDULE[http.method])
    group = http.args.get("groupName", "default")
    params = {"GroupName": group, **json.loads(_body(http) or b"{}")}
    return iam.requests_of(operation, params | {"Name": http.path.rpartition("/")[2]})


@cache
def _service(name: str) -> Any:
    return botocore.session.Session().get_service_model(name)


def _form(http: Http) -> dict[str, str]:
    """Return the fields of an upload's form."""
    if http.method != "POST" or http.mimetype != "multipart/form-data":
        return {}
    copy = {**http.environ, "wsgi.input": io.BytesIO(_body(http))}
    with Http(copy) as request:
        return {name.lower(): value for name, value in request.form.items()}


def _body(http: Http) -> bytes:
    """Return the body, and leave it to whoever reads it next."""
    body = http.get_data()
    http.environ["wsgi.input"] = io.BytesIO(body)
    return body


def _listing(request: iam.Request) -> iam.Request:
    bucket, _, key = request.resource.partition("/")
    # AWS takes the object's key for the prefix.
    return iam.Request("s3:ListBucket", bucket, {"s3:prefix": key})


def _denied(http: Http) -> Response:
    if http.path.startswith("/endpoints/"):
        return AccessDenied("User is not authorized to perform this action").response()
    of_rest = _FUNCTION.fullmatch(http.path) or _SCHEDULE.fullmatch(http.path)
    if "X-Amz-Target" in http.headers or of_rest:
        body = {"__type": "AccessDeniedException", "Message": "User is not authorized"}
        headers = {"X-Amzn-ErrorType": "AccessDeniedException"}
        return Response(json.dumps(body), 403, headers, mimetype="application/json")
    text = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    return Response("" if http.method == "HEAD" else text, 403, mimetype="application/xml")
