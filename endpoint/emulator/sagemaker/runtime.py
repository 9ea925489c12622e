"""SageMaker Runtime: InvokeEndpoint and InvokeEndpointAsync of whatever endpoints exist."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

from werkzeug.wrappers import Request, Response

from endpoint.emulator.account import ACCOUNT
from endpoint.emulator.process.clock import Clock
from endpoint.emulator.sagemaker.async_invocations import AsyncInvocations, ClientSource
from endpoint.emulator.sagemaker.async_queue import in_thread
from endpoint.emulator.sagemaker.containers import Containers
from endpoint.emulator.sagemaker.control_plane import find_endpoint, region_of
from endpoint.emulator.sagemaker.errors import RuntimeRefusal, ValidationError
from endpoint.emulator.sagemaker.faults import CutOff, Faults
from endpoint.emulator.sagemaker.invocations import LONGEST_BODY, Models, check_size, invoke
from endpoint.emulator.sagemaker.request_log import Entry, RequestLog

# The paths in botocore's model of the service.
_INVOCATION = re.compile(r"/endpoints/[^/]+/(async-)?invocations")


class Runtime:
    """Answers requests, and logs each.

    Args:
        containers: reaches the model servers.
        clients: with which results of asynchronous invocations are written.
        clock: counts the service's limits.
        longest_body: that InvokeEndpoint accepts, in bytes.
        run: runs an asynchronous invocation; see `AsyncQueue`.

    Attributes:
        faults: the faults that are switched on.
        log: the requests that arrived.
        rules: where the results of asynchronous endpoints are written.
        queue: of the asynchronous endpoints; its owner starts and closes it, or polls it.
    """

    def __init__(
        self,
        containers: Containers,
        clients: ClientSource,
        clock: Clock,
        *,
        longest_body: int = LONGEST_BODY,
        run: Callable[[Callable[[], None]], None] = in_thread,
    ) -> None:
        self.faults, self.log = Faults(), RequestLog()
        self._clock, self._longest_body = clock, longest_body
        self._models = Models(containers, self.faults, clock)
        self._asynchronous = AsyncInvocations(self._models, clients, run)
        self.queue, self.rules = self._asynchronous.queue, self._asynchronous.rules

    @staticmethod
    def handles(method: str, path: str) -> bool:
        """Whether a request is for this service."""
        return method == "POST" and _INVOCATION.fullmatch(path) is not None

    def answer(self, request: Request) -> Response:
        """Return the response to a request that this service handles.

        Raises:
            CutOff: when a fault ends the connection.
        """
        name, action = request.path.removeprefix("/endpoints/").split("/")
        asynchronous = action == "async-invocations"
        operation = "InvokeEndpointAsync" if asynchronous else "InvokeEndpoint"
        # Before the work, so that a test sees a request that hangs or is cut.
        entry = self.log.add(Entry.of(operation, name, dict(request.headers), request.get_data()))
        try:
            response = self._invoke(request, name, asynchronous, entry)
        except RuntimeRefusal as error:
            response = error.response()
        except CutOff:
            entry.status = 0
            raise
        entry.status = response.status_code
        response.headers["x-amzn-RequestId"] = str(uuid.uuid4())
        return response

    def _invoke(self, request: Request, name: str, asynchronous: bool, entry: Entry) -> Response:
        # Before the endpoint is looked up, so that a fault needs no endpoint.
        self.faults.at_door(name, self._clock, asynchronous=asynchronous)
        region = region_of(request.headers.get("Authorization"))
        endpoint = find_endpoint(name, region)
        if endpoint is None:
            raise ValidationError(f"Endpoint {name} of account {ACCOUNT} not found.")
        if asynchronous:
            return self._asynchronous.submit(endpoint, request, entry)
        check_size(request.get_data(), self._longest_body)
        return invoke(self._models, endpoint, request, entry)
