"""The endpoint that a batch paints with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from endpoint.aws.models import instance_types, is_asynchronous
from endpoint.cli.context import Context
from endpoint.core.problems import BadArgument, NotReady, PictureFailed, ScriptError
from endpoint.provision.backends import Served, of_endpoint
from endpoint.provision.batches.direct import Busy, Failed
from endpoint.provision.batches.folder import Folder
from endpoint.provision.batches.run import Task
from endpoint.provision.batches.usage import Usage
from endpoint.provision.serving import lease


@dataclass(frozen=True)
class Deployed:
    """An endpoint to paint with.

    Attributes:
        name: of the endpoint.
        model: its model's name.
        version: of its configuration; another one paints other pictures.
        instance_type: the first of its types.
        output: where an asynchronous one stores pictures; None for one in real time.
        instances: the most it may have, or has in real time.
        exists: false for an asynchronous one that is stopped, whose pictures can be collected.
        served: how to ask it.
    """

    name: str
    model: str
    version: str
    instance_type: str
    output: str | None
    instances: int
    exists: bool = True
    served: Served = field(default_factory=Served)


def find(context: Context, model: str | None, most_instances: int | None) -> Deployed:
    """Return the endpoint of a model.

    Args:
        context: the deployment.
        model: None for the deployment's only one.
        most_instances: the limit while it paints; None for its own.

    Raises:
        ScriptError: if there is none, or it has no instances to come; for one in real time, if the
            monthly cap is reached.
    """
    name = choose(context, model)
    model = context.deployment.model_of(name)
    description = context.endpoints.find(name)
    newest = newest_config(context, name)
    if newest is None:
        raise _missing(name)
    version, config = newest
    types = instance_types(config)
    served = of_endpoint(context, name, config)
    if description is None:
        if not is_asynchronous(config):
            raise _missing(name)
        output = config["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"]
        most = most_instances or 1
        return Deployed(name, model, version, types[0], output, most, exists=False, served=served)
    if not is_asynchronous(config):
        lease.require_room(context, config)
        if most_instances:
            raise BadArgument(
                f"{name} answers in real time: --most-instances is for asynchronous endpoints."
            )
        variants = description.get("ProductionVariants") or [{}]
        running = int(variants[0].get("CurrentInstanceCount") or 1)
        return Deployed(name, model, version, types[0], None, running, served=served)
    limit = context.scaling.limits(context.deployment.prefix).get(name)
    if limit is None:
        raise ScriptError(f"{name} does not scale.", "`python -m endpoint start` repairs it.")
    output = config["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"]
    most = most_instances or limit
    return Deployed(name, model, version, types[0], output, most, served=served)


def choose(context: Context, model: str | None) -> str:
    """Return the name of a model's endpoint, which may be stopped.

    Raises:
        BadArgument: if no model is named, and there are several, or none.
    """
    if model is None and not context.endpoint_names():
        stopped = list(context.newest_configs())
        if len(stopped) == 1:
            return context.deployment.endpoint(stopped[0])
    return context.choose_endpoint(model)


def require_ready(context: Context, endpoint: Deployed, *, queues: bool = True) -> None:
    """Refuse to go on with an endpoint that cannot paint.

    Args:
        context: the deployment.
        endpoint: as `find` has returned it.
        queues: whether new pictures are queued; else those in the queue are waited for.

    Raises:
        ScriptError: if it is stopped, or new pictures would be queued at the monthly cap.
    """
    if queues or not endpoint.exists:
        types = {"ProductionVariants": [{"InstanceType": endpoint.instance_type}]}
        lease.require_room(context, types)
    if not endpoint.exists:
        raise _missing(endpoint.name)


def newest_config(context: Context, endpoint: str) -> tuple[str, dict[str, Any]] | None:
    """Return the name and the content of an endpoint's configuration.

    That of a stopped endpoint is the newest one; None if the model is not deployed.
    """
    description = context.endpoints.find(endpoint)
    current = None if description is None else str(description["EndpointConfigName"])
    newest = context.newest_configs().get(context.deployment.model_of(endpoint))
    for name in filter(None, (current, newest)):
        config = context.models.find_config(name)
        if config is not None:
            return name, config
    return None


def _missing(endpoint: str) -> ScriptError:
    return ScriptError(
        f"There is no endpoint {endpoint}.",
        "`python -m endpoint status` lists the endpoints; `python -m endpoint start` restores"
        " a stopped one.",
    )


@contextmanager
def scaled_out(context: Context, folder: Folder, endpoint: Deployed) -> Iterator[None]:
    """A context in which an asynchronous endpoint may have as many instances as were asked for.

    What its limit was before is noted first, so that a later run restores it after a crash.
    """
    limits = context.scaling.limits(context.deployment.prefix)
    before = folder.notes.most or limits[endpoint.name]
    if endpoint.instances != limits[endpoint.name]:
        folder.note({"most": before})
        context.begin(f"{endpoint.name}: at most {endpoint.instances} instances")
        context.scaling.set_most(endpoint.name, endpoint.instances)
    try:
        yield
    finally:
        if folder.notes.most is not None:
            context.begin(f"{endpoint.name}: at most {before} instances, as before")
            context.scaling.set_most(endpoint.name, before)
            folder.note({"most": None})


def in_real_time(context: Context, endpoint: Deployed, usage: Usage) -> Callable[[Task], bytes]:
    """Return what paints one picture with a real-time endpoint; it raises Busy or Failed."""

    def paint(task: Task) -> bytes:
        request = task.picture.request
        began = context.clock.monotonic()
        try:
            picture = context.runtime.generate(
                endpoint.name,
                request.to_dict(),
                f"image/{request.file_format}",
                endpoint.served.backend,
            )
        except NotReady as error:
            raise Busy(str(error)) from error
        except PictureFailed as error:
            raise Failed(str(error), 400) from error
        usage.record(context.clock.monotonic() - began)
        return picture

    return paint


def renewal(context: Context, endpoint: Deployed) -> Callable[[], None]:
    """Return what renews the lease of a real-time endpoint that is used, if it is time."""
    scheduled = lease.find(context, endpoint.name)
    hours = scheduled.lease.hours if scheduled else None
    latest = -math.inf

    def renew() -> None:
        nonlocal latest
        now = context.clock.monotonic()
        # A quarter of the lease: as the gateway does.
        if hours is not None and now - latest > hours * 3_600 / 4:
            latest = now
            lease.ensure(context, endpoint.name, endpoint.version, None)

    return renew
