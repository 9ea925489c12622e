"""Parses one InvokeEndpointAsync: its checks, and where its output will be stored."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request

from endpoint.emulator.account import ACCOUNT
from endpoint.emulator.sagemaker.control_plane import AsyncConfig, Endpoint
from endpoint.emulator.sagemaker.errors import ValidationError
from endpoint.emulator.sagemaker.request_log import Entry
from endpoint.emulator.sagemaker.s3_locations import Location, Rule

# Limits and patterns from botocore's model of the service.
LONGEST_INLINE_BODY = 128_000
_PREFIX = "X-Amzn-SageMaker-"
_FILENAME = re.compile(r"(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9-_.]{0,31}")
_EXTENSION = re.compile(r"(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]{1,512}")
_TTL = (60, 21_600)
_INVOCATION_TIMEOUT = (1, 3_600)


@dataclass(frozen=True)
class AsyncRequest:
    """A request in an endpoint's queue.

    Attributes:
        endpoint: as it was when it accepted the request.
        config: its asynchronous configuration.
        inference_id: the client's, or a generated one.
        headers: of the request to the container.
        body: of the request to the container, if it came inline; else it is read from `input`.
        input: where the body is stored, or None.
        output: where the container's response will be written.
        failure: where an error will be written, if the endpoint has a failure path.
        ttl: how many seconds it may wait in the queue.
        timeout: how many seconds the container may take.
        queued: when it was queued, on the emulator's clock.
        entry: its line in the request log.
    """

    endpoint: Endpoint
    config: AsyncConfig
    inference_id: str
    headers: Mapping[str, str]
    body: bytes
    input: Location | None
    output: Location
    failure: Location | None
    ttl: float
    timeout: float
    queued: float
    entry: Entry


def read(
    endpoint: Endpoint, request: Request, now: float, entry: Entry, rule: Rule
) -> AsyncRequest:
    """Return the request as SageMaker understands it; raises ValidationError.

    `rule` says where its results are written.
    """
    config = endpoint.asynchronous
    if config is None:
        # AWS documents the refusal, but not its wording.
        raise ValidationError(
            f"Endpoint {endpoint.name} of account {ACCOUNT} is not configured for asynchronous "
            "inference."
        )
    headers = request.headers
    body = request.get_data()
    # One id for both, so that output and failure of a request can be matched.
    unique = str(uuid.uuid4())
    return AsyncRequest(
        endpoint=endpoint,
        config=config,
        inference_id=headers.get(f"{_PREFIX}Inference-Id") or str(uuid.uuid4()),
        headers=_for_container(headers),
        body=body,
        input=_input(headers.get(f"{_PREFIX}InputLocation"), body),
        output=_output(config, headers, unique, rule),
        failure=(rule.place_failure(config.failure_path, unique) if config.failure_path else None),
        ttl=_seconds(headers, "RequestTTLSeconds", _TTL, 21_600),
        timeout=_seconds(headers, "InvocationTimeoutSeconds", _INVOCATION_TIMEOUT, 900),
        queued=now,
        entry=entry,
    )


def _for_container(headers: Headers) -> dict[str, str]:
    passed = {
        "Content-Type": headers.get(f"{_PREFIX}Content-Type"),
        "Accept": headers.get(f"{_PREFIX}Accept"),
        f"{_PREFIX}Custom-Attributes": headers.get(f"{_PREFIX}Custom-Attributes"),
        f"{_PREFIX}Inference-Id": headers.get(f"{_PREFIX}Inference-Id"),
    }
    return {name: value for name, value in passed.items() if value is not None}


def _input(text: str | None, body: bytes) -> Location | None:
    # An empty body counts as none.
    if (text is None) == (not body):
        raise ValidationError("Provide exactly one of Body and InputLocation.")
    if len(body) > LONGEST_INLINE_BODY:
        raise ValidationError(
            "1 validation error detected: Value at 'body' failed to satisfy constraint: Member "
            f"must have length less than or equal to {LONGEST_INLINE_BODY}"
        )
    if text is None:
        return None
    try:
        return Location.parse(text)
    except ValueError as error:
        raise ValidationError(f"Invalid InputLocation: {text}") from error


def _output(config: AsyncConfig, headers: Headers, unique: str, rule: Rule) -> Location:
    extension = _matching(headers, "S3OutputPathExtension", _EXTENSION)
    name = _matching(headers, "Filename", _FILENAME) or f"{unique}.out"
    return rule.place_output(config.output_path, extension or "", name, unique)


def _matching(headers: Headers, name: str, pattern: re.Pattern[str]) -> str | None:
    value = headers.get(f"{_PREFIX}{name}")
    if value is not None and not pattern.fullmatch(value):
        raise ValidationError(
            f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy "
            "constraint: Member must satisfy regular expression pattern"
        )
    return value


def _seconds(headers: Headers, name: str, limits: tuple[int, int], default: int) -> float:
    value = headers.get(f"{_PREFIX}{name}", str(default))
    lowest, highest = limits
    if not value.isascii() or not value.isdigit() or not lowest <= int(value) <= highest:
        raise ValidationError(
            f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy "
            f"constraint: Member must have value between {lowest} and {highest}"
        )
    return float(value)
