"""What --dry-run does: calls that would change something are printed instead of sent.

The hook is registered with botocore, below every client, so no script can bypass it. Calls that
only read are sent. A call that would change something gets a made-up response of the right shape,
so that the script runs on to its end.
"""

from __future__ import annotations

import io
import json
import re
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.model import OperationModel, Shape

from endpoint.core.console import Console

# By name, because botocore's models do not mark operations that only read. An operation that no
# prefix matches is treated as one that changes something.
_READS = re.compile(r"(Describe|List|Get|Head|BatchGet|Simulate|Filter|Validate)[A-Z]\w*")
_LONGEST = 2000  # characters of a call that are printed


class DryRun:
    """Keeps a session from changing anything.

    Attributes:
        calls: the calls that were not sent, as printed.
    """

    def __init__(self, session: Any, console: Console) -> None:
        self.calls: list[str] = []
        self._console = console
        # Only the first event has the parameters as passed, and only the second can answer.
        session.events.register("before-parameter-build", self._keep)
        session.events.register("before-call", self._answer)

    def _keep(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["easel_params"] = dict(params)

    def _answer(
        self, model: OperationModel, context: dict[str, Any], **_: Any
    ) -> tuple[AWSResponse, dict[str, Any]] | None:
        if _READS.fullmatch(model.name):
            return None
        call = f"{model.service_model.service_name}.{model.name} {_printable(context)}"
        self.calls.append(call)
        self._console.say(f"  would call {call}")
        parsed: dict[str, Any] = _made_up(model.output_shape) if model.output_shape else {}
        parsed["ResponseMetadata"] = {"HTTPStatusCode": 200, "HTTPHeaders": {}}
        # botocore sends nothing if a handler of `before-call` returns a response.
        return AWSResponse("", 200, {}, None), parsed


def _printable(context: dict[str, Any]) -> str:
    params = context.get("easel_params", {})
    return json.dumps(params, default=_abbreviated, ensure_ascii=False)[:_LONGEST]


def _abbreviated(value: Any) -> str:
    if isinstance(value, io.BytesIO):
        value = value.getbuffer()
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return "<a file>" if hasattr(value, "read") else f"<{value!r}>"


def _made_up(shape: Shape) -> Any:
    """Return a response whose every string is a placeholder."""
    members: dict[str, Shape] = getattr(shape, "members", {})
    return {
        name: "<known after the call>"
        for name, member in members.items()
        if member.type_name == "string"
    }
