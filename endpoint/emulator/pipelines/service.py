"""All executions of pipelines."""

from __future__ import annotations

import json
import random
import string
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from endpoint.emulator.pipelines.definition import Definition
from endpoint.emulator.pipelines.execution import ENDED, Execution
from endpoint.emulator.pipelines.values import Values
from endpoint.emulator.process.clients import Clients
from endpoint.emulator.process.clock import Clock


@dataclass(frozen=True)
class Start:
    """A request to start an execution, by its token."""

    given: Mapping[str, str]
    execution: Execution


class TokenInUse(Exception):
    """The token belongs to an execution with other parameters."""


class Pipelines:
    """Runs pipelines.

    Args:
        clients: boto3 clients with the access key of pipelines' roles.
        clock: counts the pauses before retries.
        epoch: the date at which the clock is 0.
    """

    def __init__(self, clients: Clients, clock: Clock, epoch: datetime) -> None:
        self._clients, self._clock, self._epoch = clients, clock, epoch.timestamp()
        self._lock = threading.Lock()
        self._executions: dict[str, list[Execution]] = {}
        self._starts: dict[tuple[str, str], Start] = {}
        self._threads: list[threading.Thread] = []

    def date(self) -> float:
        """Return the emulated moment in seconds since 1970."""
        return self._epoch + self._clock.now()

    def start(
        self, definition: Definition, arn: str, region: str, request: Mapping[str, Any]
    ) -> Execution:
        """Start an execution; the same token returns the same one again.

        Args:
            definition: of the pipeline, now.
            arn: the pipeline's.
            region: its region.
            request: StartPipelineExecution's, with a ClientRequestToken.

        Raises:
            InvalidDefinition: for parameters that the pipeline cannot use.
            TokenInUse: for a known token with other parameters.
        """
        token = request["ClientRequestToken"]
        given = {item["Name"]: item["Value"] for item in request.get("PipelineParameters", [])}
        with self._lock:
            known = self._starts.get((arn, token))
            if known is not None:
                if known.given != given:
                    raise TokenInUse
                return known.execution
            execution = self._make(definition, given, arn, region, request)
            self._starts[arn, token] = Start(given, execution)
            self._executions.setdefault(arn, []).append(execution)
            thread = threading.Thread(target=execution.run, daemon=True, name="pipeline")
            self._threads = [item for item in self._threads if item.is_alive()] + [thread]
        thread.start()
        return execution

    def _make(
        self,
        definition: Definition,
        given: Mapping[str, str],
        arn: str,
        region: str,
        request: Mapping[str, Any],
    ) -> Execution:
        identity = "".join(random.choices(string.ascii_lowercase + string.digits, k=12))  # noqa: S311 - a name
        own = f"{arn}/execution/{identity}"
        now = datetime.fromtimestamp(self.date()).astimezone().isoformat()
        variables = {
            "PipelineName": arn.rpartition("/")[2],
            "PipelineArn": arn,
            "PipelineExecutionId": identity,
            "PipelineExecutionArn": own,
            "StartDateTime": now,
            "CurrentDateTime": now,
        }

        def client(service: str) -> Any:
            return self._clients.get(service, region)

        def read_json(uri: str) -> Any:
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            return json.loads(client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())

        values = Values(definition.values(given), variables, read_json)
        return Execution(definition, values, own, request, client, self._clock, self.date)

    def executions(self, arn: str) -> list[Execution]:
        """Return the executions of a pipeline, the newest first."""
        with self._lock:
            return self._executions.get(arn, [])[::-1]

    def is_running(self, arn: str) -> bool:
        """Whether an execution of a pipeline has not ended."""
        return any(execution.status not in ENDED for execution in self.executions(arn))

    def forget(self, arn: str) -> None:
        """Delete a pipeline's executions with it."""
        with self._lock:
            self._executions.pop(arn, None)
            self._starts = {key: start for key, start in self._starts.items() if key[0] != arn}

    def close(self) -> None:
        """End all executions."""
        with self._lock:
            executions = [item for items in self._executions.values() for item in items]
        for execution in executions:
            execution.close()
        for thread in self._threads:
            thread.join()
