"""Lambda and API Gateway: the gateway that chalice deploys, found without chalice's own records.

chalice records what it created in a file at the end of a deployment. An interrupted deployment
leaves a function or an API without a record. Here the function is found by its name, and the API by
the function that it calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.naming import APP
from endpoint.core.problems import code_of
from endpoint.core.waiting import Waiting

STAGE = "api"  # the first segment of every public path; chalice's own default
# The methods that can start a run, and the share of the limit that each deserves: most pictures are
# requested by URL, and each redirect to a slow one counts as well.
PAINTING = {
    ("GET", "/inference/{text}"): 0.5,
    ("GET", "/inference"): 0.1,
    ("GET", "/inference/default"): 0.05,
    ("POST", "/jobs"): 0.1,
    ("POST", "/v1/images/generations"): 0.15,
    ("POST", "/sdapi/v1/txt2img"): 0.1,
}
# Requests per second, and at once, of each other method. A page asks for its job every two seconds,
# and each request costs 4 millionths of a dollar.
_OTHERS = (50.0, 100)
# Lambda's code, and API Gateway's.
_MISSING = {"ResourceNotFoundException", "NotFoundException"}
_DELETE_SECONDS, _DELETE_EVERY = 600, 30
# An ARN can end in a version or an alias, which is not part of the function's own.
_FUNCTION = re.compile(r"(arn:[^:/]+:lambda:[^:/]*:[^:/]*:function:[^:/]+)")


class Gateway:
    """Functions and the REST APIs in front of them.

    Args:
        functions: the client of lambda.
        apis: the client of apigateway.
    """

    def __init__(self, functions: Any, apis: Any, waiting: Waiting) -> None:
        self._waiting = waiting
        self._functions = functions
        self._apis = apis

    def function(self, name: str) -> dict[str, Any] | None:
        """Return a function's configuration, or None if it does not exist."""
        try:
            response: dict[str, Any] = self._functions.get_function(FunctionName=name)
        except ClientError as error:
            if code_of(error) in _MISSING:
                return None
            raise
        configuration: dict[str, Any] = response["Configuration"]
        return configuration

    def allow_rule(self, name: str, rule: str) -> None:
        """Let a rule of EventBridge's invoke a function.

        Args:
            name: the function's.
            rule: the rule's ARN; the statement has its name.
        """
        try:
            self._functions.add_permission(
                FunctionName=name,
                StatementId=rule.rpartition("/")[2],
                Action="lambda:InvokeFunction",
                Principal="events.amazonaws.com",
                SourceArn=rule,
            )
        except ClientError as error:
            if code_of(error) != "ResourceConflictException":  # it may already
                raise

    def reserved_concurrency(self, name: str) -> int:
        """Return the concurrency that is reserved for a function; 0 without a reservation."""
        try:
            response = self._functions.get_function_concurrency(FunctionName=name)
        except ClientError as error:
            if code_of(error) in _MISSING:
                return 0
            raise
        return int(response.get("ReservedConcurrentExecutions", 0))

    def function_tags(self, arn: str) -> dict[str, str]:
        """Return a function's tags; empty if it does not exist."""
        try:
            tags: dict[str, str] = self._functions.list_tags(Resource=arn).get("Tags", {})
        except ClientError as error:
            if code_of(error) in _MISSING:
                return {}
            raise
        return tags

    def functions(self, prefix: str) -> list[str]:
        """Return the names of the functions with this prefix."""
        # Lambda cannot filter by name.
        pages = self._functions.get_paginator("list_functions").paginate()
        names = [item["FunctionName"] for page in pages for item in page["Functions"]]
        return [name for name in names if name.startswith(prefix)]

    def apis(self) -> dict[str, str]:
        """Return the ARN of the function behind each API named as Easel's are, by the API's id.

        The ARN is empty for an API that was imported only in part and calls no function.
        """
        pages = self._apis.get_paginator("get_rest_apis").paginate()
        # chalice gives the APIs of all deployments the app's name.
        ids = [api["id"] for page in pages for api in page["items"] if api["name"] == APP]
        return {id_: self._function_behind(id_) for id_ in ids}

    def _function_behind(self, api: str) -> str:
        # Without `embed` the methods have no integration.
        pages = self._apis.get_paginator("get_resources").paginate(restApiId=api, embed=["methods"])
        for page in pages:
            for resource in page["items"]:
                for method in resource.get("resourceMethods", {}).values():
                    uri = str((method.get("methodIntegration") or {}).get("uri", ""))
                    # ...:lambda:path/2015-03-31/functions/<function ARN>/invocations
                    if found := _FUNCTION.search(uri):
                        return found[1]
        return ""

    def apis_of(self, function: str) -> list[str]:
        """Return the ids of the REST APIs that call the function with this ARN."""
        return [api for api, arn in self.apis().items() if arn == function]

    def api_tags(self, api: str) -> dict[str, str]:
        """Return a REST API's tags."""
        tags: dict[str, str] = self._apis.get_rest_api(restApiId=api).get("tags") or {}
        return tags

    def throttle(self, api: str, per_second: float, burst: int) -> None:
        """Limit the requests per second, and at once, that can start a run; all others loosely.

        API Gateway counts each method by itself, so that one limit for the stage would hold once
        for each way to request a picture. The methods share it out instead, and polling a job does
        not use up what pictures have:
        https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-request-throttling.html
        """
        limits = {"/*/*": _OTHERS}
        for (method, path), share in PAINTING.items():
            # A slash within a path of a patch: https://www.rfc-editor.org/rfc/rfc6901
            place = f"/{path.replace('/', '~1')}/{method}"
            limits[place] = (round(per_second * share, 3), max(int(burst * share), 1))
        self._apis.update_stage(
            restApiId=api,
            stageName=STAGE,
            patchOperations=[
                {"op": "replace", "path": f"{place}/throttling/{name}", "value": f"{limit:g}"}
                for place, pair in limits.items()
                for name, limit in zip(("rateLimit", "burstLimit"), pair, strict=True)
            ],
        )

    def set_responses(self, api: str, responses: Mapping[str, Any]) -> None:
        """Replace error responses of API Gateway's own, by their types, and deploy the stage."""
        for kind, response in responses.items():
            self._apis.put_gateway_response(restApiId=api, responseType=kind, **response)
        # A stage serves the API as it was when it was deployed.
        self._apis.create_deployment(restApiId=api, stageName=STAGE)

    def tag_api(self, api: str, region: str, partition: str, tags: dict[str, str]) -> None:
        """Tag a REST API; chalice tags only functions."""
        # API Gateway's ARNs contain no account.
        arn = f"arn:{partition}:apigateway:{region}::/restapis/{api}"
        self._apis.tag_resource(resourceArn=arn, tags=tags)

    def delete_api(self, api: str) -> None:
        """Delete a REST API, if it exists.

        API Gateway deletes one API per account every 30 seconds; this waits for its turn:
        https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html

        Raises:
            TookTooLong: after ten minutes.
        """

        def attempt() -> str | None:
            try:
                _unless_missing(self._apis.delete_rest_api, restApiId=api)
            except ClientError as error:
                if code_of(error) != "TooManyRequestsException":
                    raise
                return "waiting: API Gateway deletes one REST API every 30 seconds"
            return None

        # Outside the wait, because a dry run waits for nothing but should print the call.
        if attempt() is not None:
            self._waiting.until_done(attempt, at_most=_DELETE_SECONDS, every=_DELETE_EVERY)

    def delete_function(self, name: str) -> None:
        """Delete a function, if it exists."""
        _unless_missing(self._functions.delete_function, FunctionName=name)


def _unless_missing(call: Any, **arguments: str) -> None:
    try:
        call(**arguments)
    except ClientError as error:
        if code_of(error) not in _MISSING:
            raise
