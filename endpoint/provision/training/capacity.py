"""Which instance type to train on: the quotas of training jobs are not those of endpoints."""

from __future__ import annotations

from collections.abc import Sequence

from endpoint.aws.quotas import SPOT, TRAINING, increase_command
from endpoint.cli.context import Context
from endpoint.core.problems import QuotaTooSmall


def choose_type(
    context: Context,
    types: Sequence[str],
    *,
    spot: bool,
    on_demand: str = "",
) -> str:
    """Return the first instance type that the account's quota for training allows.

    Without the right to read quotas it is the first one.

    Args:
        context: the account.
        types: in the order to try them.
        spot: whether it is to be a spot instance, whose quota is another one.
        on_demand: what the operator can do to get one that is none; empty for nothing.

    Raises:
        QuotaTooSmall: if the quotas allow none; names the command that raises the first.
    """
    quotas = context.quotas.read(types, SPOT if spot else TRAINING)
    if quotas is None:
        return types[0]
    for name in types:
        # SageMaker itself decides on a type that Service Quotas does not list.
        if name not in quotas or quotas[name][0] >= 1:
            return name
    command = request_command(context, types[0], spot=spot)
    advice = f"Request an increase, which takes from minutes to days:\n  {command}"
    if spot and on_demand:
        advice += f"\nor {on_demand}, for the full price: its quota is another one."
    usage = SPOT if spot else TRAINING
    raise QuotaTooSmall(
        f"This account can run no instance of {', '.join(types)} for {usage} (the quota is 0).",
        advice,
    )


def request_command(context: Context, instance_type: str, *, spot: bool) -> str:
    """Return the command that requests the quota of one instance; empty if its code is unknown."""
    quotas = context.quotas.read([instance_type], SPOT if spot else TRAINING) or {}
    _, code = quotas.get(instance_type, (0.0, ""))
    return increase_command(code, 1, context.account.region) if code else ""
