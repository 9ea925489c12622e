"""Which backend serves a model: chosen before an endpoint is created, and found out afterwards.

The wire of each is in `core/backends`; docs/backends.md compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from endpoint.catalogue import images, models, prices
from endpoint.catalogue.models import NONE, Model
from endpoint.cli.context import Context
from endpoint.cli.options import EndpointOptions
from endpoint.core.backends import setting
from endpoint.core.backends.backend import Backend
from endpoint.core.backends.fields import GenerationRequest, InvalidField
from endpoint.core.model_folder.files import DEFAULTS, FolderUnusable, read_defaults
from endpoint.core.problems import BadArgument
from endpoint.provision import model_metadata

EASEL = setting.EASEL.name
# The others serve endpoints that somebody else made.
CREATED = (EASEL, "hugging-face", "vllm-omni")


@dataclass(frozen=True)
class Served:
    """How to ask a deployed model for a picture.

    Attributes:
        backend: what answers.
        defaults: the model's own steps, guidance scale, width and height, as far as known.
        model: its name in requests.
    """

    backend: Backend = setting.EASEL
    defaults: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None

    def prepared(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a request with what its backend has to be sent.

        Raises:
            BadArgument: if a field is outside its limits, or the backend cannot carry it out.
        """
        # Easel's own container checks and completes a request itself.
        if self.backend.name == EASEL:
            return dict(fields)
        try:
            request = GenerationRequest.from_dict({"model": self.model, **fields})
            self.backend.check(request)
            return self.backend.complete(request, self.defaults).to_dict()
        except InvalidField as error:
            raise BadArgument(str(error)) from error

    def sample(self, prompt: str) -> dict[str, Any]:
        """Return a request for any picture of the model, in the format that it has anyway."""
        seed = {"seed": 0} if self.backend.repeats else {}
        kind = self.backend.abilities.formats[0]
        return self.prepared({"prompt": prompt, **seed, "format": kind})


def of_endpoint(context: Context, endpoint: str, config: Mapping[str, Any]) -> Served:
    """Return how to ask the deployment's endpoint with a configuration."""
    name = context.deployment.model_of(endpoint)
    variants = config.get("ProductionVariants") or [{}]
    sagemaker_model = variants[0].get("ModelName", "")
    definition = context.models.find_model(sagemaker_model) if sagemaker_model else None
    if model_metadata.BACKEND not in _environment(definition):
        return Served()
    described = model_metadata.read(context.models, context.bucket, name, sagemaker_model)
    defaults = described.metadata.get("defaults", {})
    return Served(setting.read(described.backend), defaults, name)


def _environment(definition: Mapping[str, Any] | None) -> Mapping[str, str]:
    variables: Mapping[str, str] = (
        (definition or {}).get("PrimaryContainer", {}).get("Environment", {})
    )
    return variables


def resolve(options: EndpointOptions) -> Model:
    """Return the model of the options, served by the backend that they choose.

    Raises:
        BadArgument: if there is no such model, or the backend cannot serve it.
    """
    model = models.resolve(options.model, options.revision, options.quantise)
    backend = options.backend or model.backend
    _check_image(options.image, backend)
    if backend == model.backend:
        return model
    _require_known(model, backend)
    if any(prices.is_inferentia(name) for name in options.instance_type or ()):
        raise BadArgument(
            "Inferentia2 is served by Easel's own container alone.",
            f"Leave out --backend {backend}, or choose an --instance-type with a GPU.",
        )
    if options.quantise not in {None, NONE}:
        raise BadArgument(
            f"--quantise {options.quantise} is for Easel's own container, not for {backend}."
        )
    served = _with_backend(model, backend)
    needed = setting.read(backend).abilities.required - served.defaults.keys()
    if needed:
        raise BadArgument(
            f"{model.name} has no default for {', '.join(sorted(needed))}, which"
            f" {setting.read(backend).title} has to be sent: it has another default.",
            "Choose a model of the catalogue, or a folder whose easel.json has it.",
        )
    return served


def _require_known(model: Model, backend: str) -> None:
    title = setting.read(backend).title
    if backend not in CREATED:
        raise BadArgument(
            f"--backend {backend} is for endpoints that exist: Easel creates none of them.",
            f"`python -m endpoint deploy --endpoint NAME --backend {backend}` puts the URL in front"
            " of one.",
        )
    listed = models.read()
    if model.name in listed and backend != EASEL and backend not in model.backends:
        known = [name for name, one in listed.items() if backend in one.backends]
        raise BadArgument(
            f"{title} is not known to serve {model.name}.",
            f"Of the catalogue it serves {', '.join(known)}.",
        )


def _with_backend(model: Model, backend: str) -> Model:
    types = model.instance_types
    if backend == "vllm-omni":
        # AWS tests its image on L4 and L40S; a T4 has no bfloat16.
        known = prices.instance_types()
        types = tuple(name for name in types if name not in known or known[name].bf16) or types
    return replace(
        model,
        backend=backend,
        refiner=None,
        quantise=NONE,
        # Measured in Easel's own container.
        seconds=None,
        defaults={**folder_defaults(model.folder), **model.defaults},
        instance_types=types,
    )


def folder_defaults(folder: Path | None) -> dict[str, Any]:
    """Return the defaults in a folder's easel.json, which no container but Easel's own reads.

    Raises:
        BadArgument: if it cannot be read.
    """
    file = folder / DEFAULTS if folder else None
    if file is None or not file.is_file():
        return {}
    try:
        values = read_defaults(file)
    except FolderUnusable as error:
        raise BadArgument(f"{error}.") from error
    return {name: values[name] for name in model_metadata.FIELDS if values.get(name) is not None}


def _check_image(wanted: str | None, backend: str) -> None:
    known = images.by_name(wanted) if wanted else None
    if known and backend not in known.backends:
        raise BadArgument(
            f"The image {wanted} serves with {' or '.join(known.backends)}, not with {backend}.",
            f"Pass --backend {known.backends[0]}, or another image.",
        )


def lacking(model: Model, before: Model) -> list[str]:
    """Return what a model cannot do with its backend, as lines of text.

    Args:
        model: with the backend.
        before: as it is in the catalogue.
    """
    backend = setting.read(model.backend)
    if model.backend == EASEL:
        return []
    lines = [f"It is served by {backend.title}, not by Easel's own container (docs/backends.md)."]
    if backend.missing:
        lines.append(f"Requests cannot set {', '.join(backend.missing)}.")
    if before.refiner:
        lines.append(f"{before.refiner.name} is left out: {backend.title} runs one model.")
    return lines
