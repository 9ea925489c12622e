"""Bring an endpoint into service and out of it, without leaving it behind without its scaling.

An asynchronous endpoint without scaling costs money for as long as it exists, or never wakes. So
whatever takes scaling away puts it back if it fails, and the scripts that change something repair
what a run that was killed has left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from endpoint.aws.logs import group_of
from endpoint.aws.models import instance_types, is_asynchronous
from endpoint.cli import inventory
from endpoint.cli.context import Context
from endpoint.core.leases import Lease
from endpoint.core.problems import (
    EndpointFailed,
    ScriptError,
    TookTooLong,
    message_of,
    translated,
)
from endpoint.provision.ownership import Ownership
from endpoint.provision.serving import capacity
from endpoint.provision.serving import lease as leases


def bring_into_service(
    context: Context,
    endpoint: str,
    config: str,
    tags: list[dict[str, str]],
    *,
    replace: bool = False,
    lease: Lease | None = None,
    definition: dict[str, Any] | None = None,
) -> None:
    """Wait until the endpoint serves with this configuration and scales as the configuration says.

    Its lease exists before the endpoint does. If it fails, the endpoint that is left gets its
    scaling back, and its log is printed.

    Args:
        context: the deployment.
        endpoint: its name.
        config: the endpoint configuration's name.
        tags: of a new endpoint.
        replace: delete an endpoint with another configuration before the new one is created,
            instead of an update, which needs a second instance.
        lease: of a real-time endpoint; None for the one that it has, or of the default length.
        definition: of the configuration; None to ask SageMaker.

    Raises:
        ScriptError: if the monthly cap is reached; nothing is changed.
        QuotaTooSmall: if an update finds no room for its second instance; nothing is changed.
        EndpointFailed: if SageMaker gives up.
    """
    since = int(context.clock.now().timestamp() * 1000)
    definition = definition or context.models.find_config(config) or {}
    tags = [*tags, *leases.price_tags(definition)]
    leases.ensure(context, endpoint, config, lease, definition)
    if found := context.endpoints.find(endpoint):
        # The guard counts both fleets of an update, of which the older may be the dearer.
        running = context.models.find_config(found["EndpointConfigName"]) or {}
        updating = leases.price_tags(running, definition)
        context.endpoints.tag(found["EndpointArn"], updating)
    with scaled_again(context, [endpoint]):
        try:
            _change(context, endpoint, config, tags, replace=replace)
        except EndpointFailed:
            for line in context.logs.load_failures(group_of(endpoint), since):
                context.console.say(f"  log: {line}")
            raise
    if found and updating != leases.price_tags(definition):
        context.endpoints.tag(found["EndpointArn"], leases.price_tags(definition))
    # Its creation took some of the lease.
    leases.renew(context, endpoint)
    restore_scaling(context, endpoint)


def _change(
    context: Context, endpoint: str, config: str, tags: list[dict[str, str]], *, replace: bool
) -> None:
    found = context.endpoints.updatable(endpoint)
    if found is not None and found["EndpointConfigName"] != config:
        if replace:
            if is_asynchronous(found):
                _remove_scaling(context, endpoint)
            _replace(context, endpoint, config, tags, found["EndpointConfigName"])
            return
        types = instance_types(context.models.find_config(config) or {})
        capacity.require_second(context, endpoint, types)
        before = instance_types(context.models.find_config(found["EndpointConfigName"]) or {})
        if is_asynchronous(found) and set(before) != set(types):
            _remove_scaling(context, endpoint)
    try:
        context.endpoints.ensure(endpoint, config, tags)
    except ClientError as error:
        # "The variant(s) ... must be deregistered as scalable targets with AWS Auto Scaling before
        # they can be removed or have their instance type updated."
        if "deregistered" not in message_of(error):
            raise
        _remove_scaling(context, endpoint)
        context.endpoints.ensure(endpoint, config, tags)


def _replace(
    context: Context, endpoint: str, config: str, tags: list[dict[str, str]], previous: str
) -> None:
    context.begin(f"endpoint {endpoint}: deleted, to be created again")
    context.endpoints.delete(endpoint)
    try:
        context.endpoints.ensure(endpoint, config, tags)
    except (ScriptError, ClientError, BotoCoreError):
        context.begin(f"endpoint {endpoint}: its previous version, because the new one failed")
        with _said(context, f"The previous version of {endpoint} could not be created again"):
            # `start` takes the newest that exists.
            context.models.delete_config(config)
            context.endpoints.ensure(endpoint, previous, tags)
        raise


def take_out(context: Context, endpoints: Collection[str]) -> None:
    """Delete endpoints, and their scaling first; if that fails, what is left gets it back."""
    with scaled_again(context, endpoints):
        scaled = context.scaling.scaled(f"{context.deployment.prefix}-")
        for name in endpoints:
            # First, because the wake-up alarm would otherwise act on the endpoint being deleted.
            if name in scaled:
                context.scaling.remove(name)
            context.endpoints.delete(name)
            # Only now: until then it is what ends the endpoint.
            leases.suspend(context, name)
            # A caller may have woken it in between.
            if context.endpoints.find(name) is not None:
                context.endpoints.delete(name)


def repair_scaling(context: Context) -> None:
    """Give the deployment's endpoints the scaling that an interrupted run left them without."""
    deployment, ownership = context.deployment, Ownership(context)
    for name in inventory.unscaled(context, f"{deployment.prefix}-"):
        if deployment.owns(name) and ownership.owns_endpoint(name):
            # It scales only in service.
            context.endpoints.settle(name)
            restore_scaling(context, name)


def restore_scaling(context: Context, endpoint: str) -> None:
    """Scale an asynchronous endpoint as the configuration says that it has now."""
    description = context.endpoints.find(endpoint)
    if description is None or not inventory.can_scale(description):
        return
    most = context.models.most_instances(description["EndpointConfigName"]) or 1
    context.begin(f"scaling of {endpoint} from 0 to {most} instances")
    context.scaling.ensure(endpoint, most, context.name)


def _remove_scaling(context: Context, endpoint: str) -> None:
    context.begin(f"scaling of {endpoint} removed until the new version serves")
    context.scaling.remove(endpoint)


@contextmanager
def scaled_again(context: Context, endpoints: Collection[str]) -> Iterator[None]:
    """Restore the endpoints' scaling if the block fails, or is interrupted."""
    try:
        yield
    except BaseException as error:
        for name in endpoints:
            with _said(context, f"{name} has no scaling, and it could not be restored"):
                # It scales only in service. Ctrl-C does not wait for that, nor who waited long.
                if isinstance(error, Exception) and not isinstance(error, TookTooLong):
                    context.endpoints.settle(name)
                restore_scaling(context, name)
        raise


@contextmanager
def _said(context: Context, what: str) -> Iterator[None]:
    """Print that something failed, and go on: the first error is the one to raise."""
    try:
        with translated():
            yield
    except ScriptError as error:
        context.console.say(f"{what}: {error}")
