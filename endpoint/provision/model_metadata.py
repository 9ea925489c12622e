"""A deployed model's metadata for the gateway: defaults, limits, adapters and the like."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from endpoint.aws.bucket import Bucket
from endpoint.aws.models import Models
from endpoint.catalogue import models as catalogue
from endpoint.core.backends.vllm_omni import ADAPTERS, VllmOmni
from endpoint.core.generation import adapter_files
from endpoint.core.model_folder.description import FIELDS as DESCRIPTION
from endpoint.core.model_folder.description import Description
from endpoint.core.naming import digest
from endpoint.core.problems import ScriptError
from endpoint.provision.files.payload import adapters_prefix, description_key

# The fields that a model decides where a request leaves them out. Its other defaults, such as the
# refiner's share of the steps, do not concern clients.
FIELDS = ("steps", "guidance_scale", "width", "height")
_AREA = "largest_area"
_ADAPTER = ".safetensors"
# Of a container that is not Easel's own: its backend, a name in `core/backends`.
BACKEND = "EASEL_BACKEND"
# Of a file that another container opens by a path in the request.
_PLAIN_PATH = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")
# Schedulers of diffusers that choose their steps among those of a distillation, and the values of
# EASEL_SAMPLER that select them.
_DISTILLED = {"LCMScheduler", "TCDScheduler"}
_DISTILLED_SAMPLERS = {"lcm", "tcd"}
_DISTILLATION_STEPS = 50  # the default of their `original_inference_steps`


class Described(NamedTuple):
    """What is known of a deployed model.

    Attributes:
        metadata: its properties, as `metadata`.
        description: what it says about itself to people; empty if it says nothing.
        batch: the sizes of its batches, in its own words, on which the bits of a picture depend;
            empty if it has none, or if its container did not say.
        backend: the setting of its backend; None for Easel's own container.
    """

    metadata: dict[str, Any]
    description: dict[str, Any]
    batch: str = ""
    backend: str | dict[str, Any] | None = None

    def revision(self, sagemaker_model: str) -> str:
        """Return what changes with a model's pictures, so that stored ones are not reused."""
        # The name ends in the hash of its code, weights and settings.
        version = sagemaker_model.rpartition("-")[2]
        # The container chooses the sizes of its batches, for its machine.
        return digest([version, self.batch]) if self.batch else version


def read(models: Models, bucket: Bucket, name: str, sagemaker_model: str) -> Described:
    """Return what is known of a deployed model.

    The model itself is not asked, because it can be scaled to zero. It is what its container said
    when it was created or started. If that is not stored, the defaults are those in the container's
    environment, else those of `easel.json` next to its weights, where the description is as well;
    the adapters are the files in `loras/` there; the limits are those of its scheduler. Adapters
    below the prefix for adapters are not listed, since the gateway lists them itself, unless the
    container is one of earlier versions, which reads them when it starts.

    Args:
        models: SageMaker's models.
        bucket: the deployment's bucket.
        name: the model's name in requests.
        sagemaker_model: its name in SageMaker.

    Raises:
        ScriptError: if `easel.json` next to the weights cannot be used.
    """
    listed = catalogue.read().get(name)
    seconds = listed.seconds if listed else None
    described = _said(bucket.get(description_key(name, sagemaker_model)), seconds)
    container = (models.find_model(sagemaker_model) or {}).get("PrimaryContainer", {})
    variables = container.get("Environment", {})
    if backend := variables.get(BACKEND):
        return _of_another(backend, variables, bucket, _prefix(container, bucket))
    published = _published(variables, bucket)
    if described is not None:
        own = {"loras": described.metadata.get("loras", [])} if published else {}
        return described._replace(metadata={**described.metadata, **own, **published})
    prefix = _prefix(container, bucket)
    stored = _read_defaults(bucket, prefix) if prefix else {}
    own = json.loads(variables.get("EASEL_DEFAULTS") or "{}")
    # As the container does: what the environment leaves open, or sets to null, the file decides.
    defaults = {**_without_nulls(stored), **_without_nulls(own)}
    adapters = {} if published else bucket.sizes(adapters_prefix(name))
    adapters |= bucket.sizes(f"{prefix}loras/") if prefix else {}
    limits = _limits(variables.get("EASEL_SAMPLER"), bucket, prefix)
    known = metadata(defaults, seconds, adapter_names(adapters), limits)
    try:
        return Described({**known, **published}, description(stored))
    except ValueError as error:
        raise ScriptError(
            f"easel.json in s3://{bucket.name}/{prefix} cannot be used: {error}.",
            "Correct easel.json in the model's folder, and create the endpoint again.",
        ) from error


def _of_another(
    backend: str, variables: Mapping[str, str], bucket: Bucket, prefix: str
) -> Described:
    """Return what is known of a model whose container is not Easel's own: it says nothing."""
    known = metadata(json.loads(variables.get("EASEL_DEFAULTS") or "{}"), None, ())
    if backend != VllmOmni.name or not prefix:
        return Described(known, {}, backend=backend)
    # SageMaker copies the model's folder to where the container expects it.
    folder = f"{prefix}loras/"
    paths = (key.removeprefix(folder) for key in bucket.sizes(folder))
    files = adapter_files(path for path in paths if _PLAIN_PATH.fullmatch(path))
    adapters = {name: f"{ADAPTERS}{path}" for name, path in files.items()}
    return Described(known, {}, backend=VllmOmni(adapters).setting)


def _published(variables: Mapping[str, str], bucket: Bucket) -> dict[str, str]:
    """Return where a container looks for adapters while it runs, in the gateway's settings."""
    address = variables.get("EASEL_LORAS_FROM", "")
    # The gateway may list no other bucket.
    return {"adapters": address} if address.startswith(f"s3://{bucket.name}/") else {}


def _limits(sampler: str | None, bucket: Bucket, prefix: str) -> dict[str, Any]:
    """Return the limits of a model's scheduler, as the container would report them."""
    config = _read_scheduler(bucket, prefix) if prefix else {}
    replaced = sampler not in {None, "", "own"}
    distilled = (
        sampler in _DISTILLED_SAMPLERS if replaced else config.get("_class_name") in _DISTILLED
    )
    if not distilled:
        return {}
    most = config.get("original_inference_steps", _DISTILLATION_STEPS)
    return {"steps": {"maximum": most}} if isinstance(most, int) and 0 < most < 100 else {}


def _read_scheduler(bucket: Bucket, prefix: str) -> dict[str, Any]:
    for folder in ("", "base/"):
        content = bucket.get(f"{prefix}{folder}scheduler/scheduler_config.json")
        if content is not None:
            try:
                config = json.loads(content)
            except (ValueError, RecursionError):
                return {}  # the container reports it
            return config if isinstance(config, dict) else {}
    return {}


def _said(content: bytes | None, seconds: float | None) -> Described | None:
    """Return what a model's container said about itself; None if that is not stored."""
    if content is None:
        return None
    try:
        described = json.loads(content)
        known = described_metadata(described, seconds)
        return Described(known, description(described), _batch(described))
    except (ValueError, RecursionError):  # not what was stored
        return None


def _batch(described: Mapping[str, Any]) -> str:
    speed = described.get("speed")
    batch = speed.get("batch") if isinstance(speed, Mapping) else None
    return batch if isinstance(batch, str) and batch != "off" else ""


def description(values: object) -> dict[str, Any]:
    """Return the part of `easel.json`, or of what a model reports, that describes it to people.

    Raises:
        ValueError: if it is not a description.
    """
    if not isinstance(values, Mapping):
        raise ValueError("not a JSON object")
    return Description.from_dict({name: values.get(name) for name in DESCRIPTION}).to_dict()


def _read_defaults(bucket: Bucket, prefix: str) -> dict[str, Any]:
    """Return an `easel.json`, which is next to the weights or to those of a base; {} if none is.

    Raises:
        ScriptError: if somebody put one there that is no JSON object.
    """
    for key in (f"{prefix}easel.json", f"{prefix}base/easel.json"):
        content = bucket.get(key)
        if content is not None:
            try:
                values = json.loads(content)
            except (ValueError, RecursionError):
                values = None
            if not isinstance(values, dict):
                place = f"s3://{bucket.name}/{key}"
                raise ScriptError(f"{place} is not a JSON object.", "Correct it, or delete it.")
            return values
    return {}


def described_metadata(described: object, seconds: float | None) -> dict[str, Any]:
    """Return the properties of a model from the response to `{"describe": true}`; see `metadata`.

    Published adapters are left out: they can change at any time.

    Raises:
        ValueError: if it is not such a response.
    """
    if not isinstance(described, Mapping):
        raise ValueError("not a JSON object")
    defaults, loras = described.get("defaults"), described.get("loras")
    limits, published = described.get("limits") or {}, described.get("published") or []
    if not (isinstance(defaults, Mapping) and isinstance(loras, list)):
        raise ValueError("no defaults or no loras")
    if not isinstance(limits, Mapping):
        raise ValueError("limits is not a JSON object")
    own = [name for name in loras if name not in published]
    return metadata({**defaults, _AREA: described.get(_AREA)}, seconds, own, limits)


def metadata(
    defaults: Mapping[str, Any],
    seconds: float | None,
    loras: Iterable[str],
    limits: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the properties of a model that are known, in the form of the gateway's settings.

    The largest area is one of the defaults of a container.
    """
    fields = {field: defaults[field] for field in FIELDS if defaults.get(field) is not None}
    entries = {
        "defaults": fields,
        "seconds": seconds,
        "loras": list(loras),
        "limits": limits,
        _AREA: defaults.get(_AREA),
    }
    return {name: value for name, value in entries.items() if value}


def _without_nulls(defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in defaults.items() if value is not None}


def adapter_names(paths: Iterable[str]) -> list[str]:
    """Return the container's names for adapters, from the paths of their files."""
    files = [PurePosixPath(path) for path in paths]
    visible = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    return sorted({_adapter_name(each.stem) for each in visible if each.suffix.lower() == _ADAPTER})


def _adapter_name(stem: str) -> str:
    """Return the stem if it is fit for a request, else a name made of it and of its hash.

    The container's `Name.of`; a test compares them.
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", stem):
        return stem
    stem = unicodedata.normalize("NFC", stem)
    start = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:56].strip("._-") or "lora"
    digest = hashlib.sha256(stem.encode("utf-8", "backslashreplace")).hexdigest()
    return f"{start}-{digest[:6]}"


def _prefix(container: dict[str, Any], bucket: Bucket) -> str:
    """Return the prefix of a container's files; empty if they are in another bucket."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    address = str(source.get("S3Uri", ""))
    own = f"s3://{bucket.name}/"
    return address.removeprefix(own) if address.startswith(own) else ""
