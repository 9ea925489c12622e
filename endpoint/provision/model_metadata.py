"""What is known of a deployed model beside where it is; visitors are told it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from endpoint.aws.bucket import Bucket
from endpoint.aws.models import Models
from endpoint.catalogue import models as catalogue

# What a model decides where a request leaves it open; it may have more defaults than these.
FIELDS = ("steps", "guidance_scale", "width", "height")
_ADAPTER = ".safetensors"


def read_metadata(
    models: Models, bucket: Bucket, name: str, sagemaker_model: str
) -> dict[str, Any]:
    """Return a deployed model's `defaults`, `seconds` and `loras`, each only if it is known.

    Nothing is asked of the model itself, which may sleep: the defaults are those that its container
    was given, or `easel.json` beside its weights; the adapters are the files in `loras/` there.

    Args:
        models: SageMaker's.
        bucket: the deployment's.
        name: the model's own.
        sagemaker_model: what SageMaker calls it.
    """
    container = (models.find_model(sagemaker_model) or {}).get("PrimaryContainer", {})
    given = container.get("Environment", {}).get("EASEL_DEFAULTS")
    prefix = _prefix(container, bucket)
    if given is None and prefix:
        given = bucket.get(f"{prefix}easel.json")
    listed = catalogue.read().get(name)
    adapters = bucket.sizes(f"{prefix}loras/") if prefix else {}
    return known(given, listed.seconds if listed else None, adapter_names(adapters))


def known(
    defaults: str | bytes | None, seconds: float | None, loras: Iterable[str]
) -> dict[str, Any]:
    """Return what the gateway's entry of a model says; `defaults` is JSON."""
    read = json.loads(defaults) if defaults else {}
    chosen = {field: read[field] for field in FIELDS if read.get(field) is not None}
    told = {"defaults": chosen, "seconds": seconds, "loras": list(loras)}
    return {name: value for name, value in told.items() if value}


def adapter_names(paths: Iterable[str]) -> list[str]:
    """Return the names that the container gives adapters, from their files' paths."""
    stems = (PurePosixPath(path).stem for path in paths if path.endswith(_ADAPTER))
    names = {re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:63] for stem in stems}
    return sorted(name for name in names if name)


def _prefix(container: dict[str, Any], bucket: Bucket) -> str:
    """Return where in the bucket a container's files lie; nothing if they lie elsewhere."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    place = str(source.get("S3Uri", ""))
    here = f"s3://{bucket.name}/"
    return place.removeprefix(here) if place.startswith(here) else ""
