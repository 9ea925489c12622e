"""How long a job of the operator may run within the deployment's monthly cap.

The guard deletes endpoints and no jobs: a job has to end by itself.
"""

from __future__ import annotations

import math

from endpoint.catalogue import prices
from endpoint.cli.context import Context
from endpoint.core import compiled_models
from endpoint.core.batches import places
from endpoint.core.problems import ScriptError
from endpoint.provision.serving import lease


def most_seconds(context: Context, instance_type: str) -> float:
    """Return how long a job may run until the monthly cap and an hour beyond it are spent.

    Infinite without a cap.

    Raises:
        ScriptError: if other jobs may spend all that is left.
    """
    limit, price = lease.cap(context), prices.dearest([instance_type])
    if not limit or not price:
        return math.inf
    spent = float((lease.spending(context) or {"usd": 0.0})["usd"])
    # The full price: what a spot instance costs is known afterwards.
    reserved = _reserved(context)
    left = limit - spent - reserved
    if left <= 0:
        # Each job may run for an hour beyond the cap, if several could start at it.
        raise ScriptError(
            f"Of the monthly cap of {limit:g} USD, {spent:.2f} USD are spent, and jobs that run"
            f" may spend {reserved:.2f} USD.",
            "Wait until they end, or raise it with --monthly-cap of `create` or `deploy`.",
        )
    return left / price * 3_600 + 3_600


def _reserved(context: Context) -> float:
    """Return the USD that the jobs of batches and of compilations that run can cost at most.

    The whole of their longest runs: what they have cost so far is recorded at the end, if at all.
    """
    usd = 0.0
    for prefix in (places.sagemaker_prefix, compiled_models.sagemaker_prefix):
        for summary in context.training.running(prefix(context.name)):
            job = context.training.find(summary["TrainingJobName"]) or {}
            seconds = job.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 0)
            price = prices.dearest([job.get("ResourceConfig", {}).get("InstanceType", "")])
            usd += (price or 0.0) * seconds / 3_600
    return usd
