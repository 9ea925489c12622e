"""EventBridge Scheduler, and SageMaker's endpoints themselves: what keeps a model awake.

Each call is short, and none is worth failing a picture: what goes wrong is NotAvailable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.clients import Client
from chalicelib.aws.deadline import DeadlinePassed

# What an update has to repeat of a schedule: everything else would fall back to its default.
_KEPT = (
    "ActionAfterCompletion",
    "Description",
    "FlexibleTimeWindow",
    "GroupName",
    "Name",
    "ScheduleExpression",
    "ScheduleExpressionTimezone",
    "State",
    "Target",
)


class NotAvailable(Exception):
    """AWS did not do what it was asked for; the code is its own, or empty."""

    def __init__(self, code: str = "", message: str = "") -> None:
        super().__init__(f"{code} {message}".strip())
        self.code = code
        self.message = message


class Schedules:
    """The schedules of one group, by name."""

    def __init__(self, scheduler: Client, group: str) -> None:
        self._scheduler = scheduler
        self._group = group

    def find(self, name: str) -> dict[str, Any] | None:
        """Return a schedule in the form that `put` takes; None if there is none.

        Raises:
            NotAvailable: if AWS does not respond as it should.
        """
        client = self._scheduler.client()
        try:
            found = _asked(lambda: client.get_schedule(GroupName=self._group, Name=name))
        except NotAvailable as error:
            if error.code != "ResourceNotFoundException":
                raise
            return None
        return {key: found[key] for key in _KEPT if key in found}

    def put(self, schedule: dict[str, Any]) -> None:
        """Replace a schedule that exists; raises NotAvailable."""
        client = self._scheduler.client()
        _asked(lambda: client.update_schedule(**schedule))


class ControlPlane:
    """The endpoints of the account."""

    def __init__(self, sagemaker: Client) -> None:
        self._sagemaker = sagemaker

    def find(self, name: str) -> dict[str, Any] | None:
        """Return the description of an endpoint; None if it does not exist.

        Raises:
            NotAvailable: if AWS does not respond as it should.
        """
        client = self._sagemaker.client()
        try:
            return _asked(lambda: client.describe_endpoint(EndpointName=name))
        except NotAvailable as error:
            # An invalid parameter has the same code.
            if "could not find" not in error.message.lower():
                raise
            return None

    def create(self, name: str, config: str, tags: dict[str, str]) -> None:
        """Create an endpoint; raises NotAvailable."""
        client = self._sagemaker.client()
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        _asked(
            lambda: client.create_endpoint(
                EndpointName=name, EndpointConfigName=config, Tags=listed
            )
        )


def _asked(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return call()
    except ClientError as error:
        described = error.response.get("Error", {})
        raise NotAvailable(described.get("Code", ""), described.get("Message", "")) from error
    except (BotoCoreError, DeadlinePassed) as error:
        raise NotAvailable from error
