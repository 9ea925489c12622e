"""How long a job of the operator may run within the deployment's monthly cap."""

from __future__ import annotations

import math

from endpoint.catalogue import prices
from endpoint.cli.context import Context
from endpoint.provision.serving import lease


def seconds_left(context: Context, instance_type: str) -> float:
    """Return how long a job can run until the guard stops it at the monthly cap.

    Infinite without a cap.
    """
    limit, price = lease.cap(context), prices.dearest([instance_type])
    if not limit or not price:
        return math.inf
    spent = float((lease.spending(context) or {"usd": 0.0})["usd"])
    # The full price: what a spot instance costs is known afterwards.
    return (limit - spent) / price * 3_600


def most_seconds(context: Context, instance_type: str) -> float:
    """Return how long a job may run: an hour longer than `seconds_left`.

    Without the guard, the job ends by itself.
    """
    return seconds_left(context, instance_type) + 3_600
