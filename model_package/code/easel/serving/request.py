"""From a request's body to a checked request."""

from __future__ import annotations

import json
import math
import re
import time

from easel.errors import InvalidRequest
from generation import GenerationRequest

_JSON = "application/json"
_DESCRIBE = {"describe": True}
# What the gateway adds to the custom attributes; in any other text nothing is stated.
_UNTIL = re.compile(r"; ?(until|within)=([0-9]{1,12}(?:\.[0-9]{1,6})?)$")
_CHANGED = re.compile(r"; ?changed=([0-9]{1,12})(?:;|$)")


class DescribeRequest:
    """A request for the model's description instead of an image."""


def read_request(
    data: str | bytes | bytearray, content_type: str | None
) -> GenerationRequest | DescribeRequest:
    """Return the request in a body; `{"describe": true}` is a `DescribeRequest`.

    Args:
        data: JSON; the toolkit passes text or bytes, depending on the exact content type.
        content_type: `application/json`, with or without parameters.

    Raises:
        InvalidRequest: for another content type, or a body that is not a JSON object.
        InvalidField: for a field outside the contract's limits.
    """
    if media_type(content_type or "") != _JSON:
        raise InvalidRequest(f"The content type must be {_JSON}.", "Content-Type")
    try:
        # Not what json.loads makes of bytes: it takes UTF-16 as well, which text cannot be here.
        text = data if isinstance(data, str) else data.decode("utf-8")
        body = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:  # broken JSON, broken UTF-8, nested too deep
        raise InvalidRequest("The body must be JSON in UTF-8.") from error
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return DescribeRequest() if body == _DESCRIBE else GenerationRequest.from_dict(body)


def read_deadline(attributes: str | None) -> float:
    """Return when the caller will have left, by `time.monotonic`; infinity if it does not say.

    Args:
        attributes: SageMaker's custom attributes of the request. They end in `;until=` with a Unix
            time, or in `;within=` with seconds from now.
    """
    stated = _UNTIL.search(attributes or "")
    if stated is None:
        return math.inf
    seconds = float(stated[2])
    # Also counts the time that a request spent in the model server's queue.
    left = seconds - time.time() if stated[1] == "until" else seconds
    return time.monotonic() + left


def read_changed(attributes: str | None) -> float:
    """Return when the file of one of the request's adapters was changed last, as the caller knows.

    Args:
        attributes: SageMaker's custom attributes of the request. They have `;changed=` with a Unix
            time, if the gateway read the list of adapters.

    Returns:
        Seconds since 1970; minus infinity if it is not stated.
    """
    stated = _CHANGED.search(attributes or "")
    return -math.inf if stated is None else float(stated[1])


def media_type(header: str) -> str:
    """Return a header's media type without parameters, in lower case."""
    return header.partition(";")[0].strip().lower()
