"""The lease of a real-time endpoint: each use renews it, and a caller with a key may wake it.

A schedule of EventBridge Scheduler deletes the endpoint when its lease is over. Its description has
what `endpoint/core/leases.py` writes: the lease in hours, and the endpoint configuration.
"""

from __future__ import annotations

import json
import threading
import time
from calendar import timegm
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from chalicelib.aws.clients import Client, LazyClient
from chalicelib.aws.schedules import ControlPlane, NotAvailable, Schedules
from chalicelib.errors import (
    EndpointAsleep,
    EndpointMissing,
    EndpointUnavailable,
    EndpointWaking,
)
from chalicelib.settings import Lease, Model
from chalicelib.telemetry import logger

_MOMENT = "at(%Y-%m-%dT%H:%M:%S)"
# Renewed when less than this is left: at most once in a quarter of the lease.
_RENEWED_BELOW = 0.75
# From the request for an endpoint to its first picture: an instance, its image and the weights.
WAKE_SECONDS = 480
_SOONEST = 30
PRICE_TAG = "easel:usd-per-hour"


class Leases:
    """The leases of the models on offer.

    Args:
        scheduler: provides the client of EventBridge Scheduler.
        sagemaker: provides the client of SageMaker's control plane.
        now: seconds since 1970.
    """

    def __init__(
        self,
        scheduler: Client | None = None,
        sagemaker: Client | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._now = now
        self._scheduler = scheduler or LazyClient("scheduler", read_seconds=5)
        self._endpoints = ControlPlane(sagemaker or LazyClient("sagemaker", read_seconds=5))
        # By the schedule's name, when it is looked at again: seconds since 1970.
        self._again: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def used(self, model: Model, *, wakes: bool) -> Iterator[None]:
        """Renew the lease of a model's endpoint, while its picture is generated inside.

        Args:
            model: with a real-time endpoint.
            wakes: whether this caller may have the endpoint created again.

        Raises:
            EndpointAsleep: if the endpoint does not exist, and this request does not change that.
            EndpointWaking: if it is being created.
        """
        lease = model.lease
        if lease is None:
            yield
            return
        self._renew_beside(lease)
        try:
            yield
        except EndpointMissing as error:
            # Where a queue can generate the picture, nobody has to be woken.
            raise self._missing(model, lease, wakes=wakes and model.queue is None) from error

    def _renew_beside(self, lease: Lease) -> None:
        """Renew a lease in a thread of its own: the picture takes longer than that."""
        now = self._now()
        with self._lock:
            if now < self._again.get(lease.name, 0):
                return
            # Not twice at the same time; and after a failure, in a minute.
            self._again[lease.name] = now + 60
        threading.Thread(target=self._renew, args=(lease,), daemon=True, name="lease").start()

    def _renew(self, lease: Lease) -> None:
        try:
            schedules = Schedules(self._scheduler, lease.group)
            schedule = schedules.find(lease.name)
            if schedule is None:
                return
            hours = _said(schedule).get("hours")
            now = self._now()
            left = _end(schedule) - now
            if schedule["State"] != "ENABLED" or not hours or left <= 0:
                again = now + 60
            elif left <= hours * 3_600 * _RENEWED_BELOW:
                schedules.put(schedule | {"ScheduleExpression": _at(now + hours * 3_600)})
                again = now + hours * 3_600 * (1 - _RENEWED_BELOW)
            else:
                again = now + left - hours * 3_600 * _RENEWED_BELOW
        except NotAvailable as error:
            logger.warning("A lease was not renewed", lease=lease.name, reason=str(error))
            return
        with self._lock:
            self._again[lease.name] = again

    def _missing(self, model: Model, lease: Lease, *, wakes: bool) -> EndpointUnavailable:
        """Return the error for a model whose endpoint takes no requests, and wake it if allowed."""
        name = str(model.endpoint)
        try:
            seen = self._endpoints.find(name)
            if seen is None and wakes and lease.wake and self._wake(model, lease):
                return _waking(model.name, 0)
        except NotAvailable as error:
            logger.warning("An endpoint was not woken", endpoint=name, reason=str(error))
            # Another request may be creating it.
            return EndpointMissing("The model has no endpoint at the moment.")
        if seen is None or seen["EndpointStatus"] in {"Deleting", "Failed", "OutOfService"}:
            return _asleep(model, lease, is_going=seen is not None)
        created = seen["CreationTime"].timestamp()
        return _waking(model.name, self._now() - created)

    def _wake(self, model: Model, lease: Lease) -> bool:
        """Create an endpoint again that its lease has ended; False if its owner has stopped it.

        Raises:
            NotAvailable: if AWS does not do it.
        """
        schedules = Schedules(self._scheduler, lease.group)
        schedule = schedules.find(lease.name)
        said = _said(schedule) if schedule else {}
        if schedule is None or schedule["State"] != "ENABLED" or not said.get("config"):
            return False
        # First what ends the endpoint, and then the endpoint.
        end = self._now() + (said.get("hours") or 1) * 3_600
        schedules.put(schedule | {"ScheduleExpression": _at(end)})
        tags = {"easel": lease.deployment}
        if said.get("usd_per_hour") is not None:
            tags[PRICE_TAG] = f"{said['usd_per_hour']:g}"
        try:
            self._endpoints.create(str(model.endpoint), said["config"], tags)
        except NotAvailable as error:
            # Two callers can wake it at once.
            if "already existing" not in error.message:
                raise
        return True


def _said(schedule: dict[str, Any]) -> dict[str, Any]:
    try:
        said = json.loads(schedule.get("Description") or "{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _end(schedule: dict[str, Any]) -> float:
    return timegm(time.strptime(schedule["ScheduleExpression"], _MOMENT))


def _at(moment: float) -> str:
    return time.strftime(_MOMENT, time.gmtime(moment))


def _waking(model: str, seconds: float) -> EndpointWaking:
    left = max(round(WAKE_SECONDS - seconds), _SOONEST)
    minutes = max(round(left / 60), 1)
    message = f"{model} is being started; ask again in about {minutes} minute{'s' * (minutes > 1)}."
    return EndpointWaking(message, left)


def _asleep(model: Model, lease: Lease, *, is_going: bool) -> EndpointAsleep:
    start = f"python -m endpoint start --name {lease.deployment} --model {model.name}"
    message = f"{model.name} is asleep, because nobody has used it for a while, or its owner"
    message += f" stopped it. Its owner starts it with `{start}`."
    if lease.wake:
        message += (
            " It is just ending; ask again in some minutes."
            if is_going
            else " A request with a key starts it, unless its owner stopped it."
        )
    return EndpointAsleep(message)
