"""Lambda's Invoke: the function behind the gateway, and those that a test replaces.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import Any

import urllib3
from werkzeug.wrappers import Request, Response

from endpoint.emulator.lambda_.lambda_runtime import Result, TooManyRequests

# A name, or an ARN, either with a version or an alias.
_PATH = re.compile(r"/2015-03-31/functions/(?:arn:[^/]*:function:)?([^/:]+)(?::[^/]+)?/invocations")
_ACCEPTED, _NO_CONTENT = 202, 204
# Where a function that is served on this machine is invoked, as by AWS's own Runtime Interface
# Emulator: https://docs.aws.amazon.com/lambda/latest/dg/images-test.html
INVOCATIONS = "/2015-03-31/functions/function/invocations"


class Functions:
    """The functions that can be invoked.

    Args:
        deployed: invokes a deployed function; raises LookupError if there is none of this name.

    Attributes:
        replaced: what tests put in the place of functions, by their names.
    """

    def __init__(self, deployed: Callable[[str, Any], Result]) -> None:
        self._deployed = deployed
        self.replaced: dict[str, Callable[[Any], Any]] = {}

    def replace(self, name: str, url: str | None) -> None:
        """Post a function's events to an address instead; None ends that."""
        self.replaced.pop(name, None)
        if url is not None:
            self.replaced[name] = lambda event: _post(url, event)

    def handles(self, method: str, path: str) -> bool:
        """Whether a request invokes a function."""
        return method == "POST" and _PATH.fullmatch(path) is not None

    def answer(self, request: Request) -> Response:
        """Invoke a function; the response to an asynchronous invocation does not wait."""
        match = _PATH.fullmatch(request.path)
        name = match[1] if match else ""
        event = json.loads(request.get_data() or b"null")
        match request.headers.get("X-Amz-Invocation-Type", "RequestResponse"):
            case "DryRun":
                return Response(status=_NO_CONTENT)
            case "Event":
                # Lambda tries a failed one twice more, which is not emulated.
                threading.Thread(
                    target=self._invoke, args=(name, event), daemon=True, name="invocation"
                ).start()
                return Response(status=_ACCEPTED)
        return self._invoke(name, event)

    def _invoke(self, name: str, event: Any) -> Response:
        try:
            if name in self.replaced:
                return _result(self.replaced[name](event), None)
            result = self._deployed(name, event)
        except LookupError:
            message = f"Function not found: {name}"
            return _refusal(404, "ResourceNotFoundException", message)
        except TooManyRequests as error:
            return _refusal(429, "TooManyRequestsException", str(error))
        except Exception as error:  # noqa: BLE001 - a replaced function failed, as one can
            described = {"errorMessage": str(error), "errorType": type(error).__name__}
            return _result(described, "Unhandled")
        return _result(result.payload, result.error)


def _post(url: str, event: Any) -> Any:
    answer = urllib3.request("POST", url, json=event, retries=False, timeout=60.0)
    if answer.status != 200:
        raise RuntimeError(f"{url} answered {answer.status}")
    return json.loads(answer.data or b"null")


def _result(payload: Any, error: str | None) -> Response:
    headers = {"X-Amz-Executed-Version": "$LATEST"}
    if error:
        headers["X-Amz-Function-Error"] = error
    return Response(json.dumps(payload), 200, headers, mimetype="application/json")


def _refusal(status: int, code: str, message: str) -> Response:
    body = json.dumps({"Type": "User", "Message": message})
    headers = {"X-Amzn-ErrorType": code}
    return Response(body, status, headers, mimetype="application/json")
