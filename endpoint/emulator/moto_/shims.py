"""Puts in what moto 5.2.5 lacks, once per process. Each shim names the limitation it bridges."""

from __future__ import annotations

from functools import cache
from typing import Any

from moto import backends
from moto.core import errors, responses
from moto.s3.models import FakeKey

from endpoint.emulator.moto_ import (
    api_gateway,
    codebuild,
    ecr,
    event_targets,
    pipelines,
    sagemaker,
    schedules,
    service_quotas,
    training,
)


@cache
def install() -> None:
    """Patch moto's classes."""
    sagemaker.install()
    api_gateway.install()
    ecr.install()
    service_quotas.install()
    codebuild.install()
    event_targets.install()
    training.install()
    pipelines.install()
    schedules.install()
    _look_up_once()
    _forget_objects()


def _look_up_once() -> None:
    """Moto lists its folders and a class's methods at each call, and its errors at each error.

    Clients that wait for a picture ask S3 for it again and again.
    """
    modules = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules
    factory = errors.ErrorLookupFactory()
    vars(errors)["ErrorLookupFactory"] = lambda: factory
    names = vars(responses)["method_names_from_class"]
    vars(responses)["method_names_from_class"] = cache(names)


def _forget_objects() -> None:
    """Moto keeps every S3 object in a list, for its dashboard and its tests, deleted or not.

    An emulator that runs for days would grow with each picture.
    """
    tracked: Any = FakeKey
    # BaseModel's own adds the object to the list, which a reset of moto replaces.
    tracked.__new__ = lambda cls, *_args, **_options: object.__new__(cls)
    # Without the warning that a replaced object was not closed by hand.
    tracked.__del__ = FakeKey.dispose
