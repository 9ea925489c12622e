"""EventBridge: the events of SageMaker, which moto 5.2.5 does not send."""

from __future__ import annotations

import uuid
from typing import Any

from moto.events.models import events_backends

from endpoint.emulator.account import ACCOUNT


def send(source: str, region: str, kind: str, detail: dict[str, Any], date: float) -> None:
    """Send an event of SageMaker's to the rules of the default bus.

    Args:
        source: the ARN of what has changed.
        region: its region.
        kind: the detail-type.
        detail: what is described.
        date: the moment in seconds since 1970.
    """
    event: Any = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": "aws.sagemaker",
        "account": ACCOUNT,
        "time": date,
        "region": region,
        "resources": [source],
        "detail": detail,
    }
    for rule in list(events_backends[ACCOUNT][region].event_buses["default"].rules.values()):
        rule.send_to_targets(event.copy(), transform_input=False)
