"""A request for a picture that leaves nothing open: made once, by `ImageService.resolve`."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from chalicelib.errors import InvalidRequest
from chalicelib.generation import GenerationRequest, InvalidField
from chalicelib.settings import Model, Settings


@dataclass(frozen=True)
class ResolvedRequest:
    """A complete request with its model and its id.

    Attributes:
        request: has a model and, if that takes one, a seed.
        model: the model that it names.
        id: the same for the same picture; names its job, its cache entry and its use of a quota.
            Where no picture can be repeated, each has another one.
        link_id: the id that a URL of this picture alone names: the same for the same request.
        changed: when the file of one of its adapters was changed last, in seconds since 1970; None
            if it has none that can change.
    """

    request: GenerationRequest
    model: Model
    id: str
    link_id: str
    changed: int | None = None

    def require_queue(self) -> None:
        """Raise InvalidRequest naming `model`, if that has no asynchronous endpoint."""
        if self.model.queue is None:
            raise InvalidRequest("model: has no asynchronous endpoint", field="model")


def complete(
    settings: Settings, request: GenerationRequest, seed: int | None = None
) -> GenerationRequest:
    """Return the request with a model, and with what the model's backend needs.

    Args:
        settings: has the models and the default among them.
        request: its own seed and model are kept.
        seed: used if the request has none; None for a random one. A model whose backend takes no
            seed gets none.

    Raises:
        InvalidRequest: naming `model`, if there is no model of that name, or the field that is
            outside the limits of the model, or that its backend cannot carry out.
    """
    request = request.complete(model=settings.default_model)
    if request.model not in settings.models:
        names = ", ".join(settings.models)
        raise InvalidRequest(f"model: must be one of {names}", field="model")
    model = settings.models[str(request.model)]
    if model.backend.repeats:
        # A seed is always chosen here, so that every picture can be generated again.
        request = request.complete(seed=random_seed() if seed is None else seed)
    _check_limits(model, request)
    try:
        model.backend.check(request)
        return model.backend.complete(request, model.defaults)
    except InvalidField as error:
        raise InvalidRequest(str(error), field=error.field) from error


def _check_limits(model: Model, request: GenerationRequest) -> None:
    for name, rule in model.rules.items():
        value = getattr(request, name)
        try:
            if value is not None:
                rule.clean(value)
        except ValueError as error:
            message = f"{name}: {error} for the model {model.name}"
            raise InvalidRequest(message, field=name) from error


def job_id(request: GenerationRequest, revision: str, versions: Sequence[str] = ()) -> str:
    """Return the id of a complete request: the model's name and 128 bits of SHA-256.

    Args:
        request: made by `complete`.
        revision: names the model's weights: other weights make another picture.
        versions: of the files of its adapters, if they can change.
    """
    parts = [request.to_dict(), revision, *versions]
    # Sorted and without white space: the same request must always give the same bytes.
    content = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"{request.model}-{hashlib.sha256(content.encode()).hexdigest()[:32]}"


def random_seed() -> int:
    """Return a random seed within the contract's limits."""
    return secrets.randbelow(2**32)
