"""Whether a model fits into the memory of the instance types that it would run on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from endpoint.catalogue import memory, prices, quantisation
from endpoint.catalogue.memory import GB, Fit
from endpoint.catalogue.models import Model
from endpoint.catalogue.prices import InstanceType
from endpoint.core.problems import BadArgument


@dataclass(frozen=True)
class Comparison:
    """A model on an instance type.

    Attributes:
        name: the type's.
        fit: the comparison of the memory.
        refused: why the type cannot store the model's weights as it says; empty if it can.
        advice: what would make it fit; empty if it fits.
    """

    name: str
    fit: Fit
    refused: str
    advice: str


def of_type(model: Model, name: str) -> Comparison | str:
    """Return how a model fits on an instance type, or why that is not known."""
    instance = prices.instance_types().get(name)
    if instance is None:
        return f"{name}: not known, because its GPU is not in endpoint/catalogue/prices.json"
    refused = quantisation.refusal(model, instance) or ""
    if instance.compute is None and not refused:
        return f"{name}: not known, because models are compiled for {instance.gpu}"
    needed = model.memory(instance)
    if needed is None:
        return f"{name}: not known, because the parameters of {model.name} are not"
    compared = memory.fit(needed, instance)
    advice = "" if compared.state == "fits" else _advice(model, instance)
    return Comparison(name, compared, refused, advice)


def require(model: Model, types: Iterable[str]) -> None:
    """Refuse instance types that are certainly too small, and quantisations that they lack.

    Raises:
        BadArgument: for the first type; says what fits.
    """
    if reason := quantisation.refusal(model):
        raise BadArgument(f"--quantise: {reason}.")
    for name in types:
        compared = of_type(model, name)
        if isinstance(compared, str):
            continue
        if compared.refused:
            raise BadArgument(f"--quantise {model.quantise}: {compared.refused}.")
        if compared.fit.state == "too large":
            finding = f"{model.title} does not fit on {name}: {compared.fit.finding}."
            raise BadArgument(finding, compared.advice)


def lines(model: Model, types: Iterable[str]) -> Iterator[str]:
    """Yield the comparison with each type, with advice where there is little room."""
    for name in types:
        compared = of_type(model, name)
        if isinstance(compared, str):
            yield f"Memory on {compared}."
        else:
            yield f"Memory on {name}: {compared.fit.finding}. {compared.advice}".rstrip()


def _advice(model: Model, instance: InstanceType) -> str:
    if smaller := quantisation.smaller(model, instance):
        name, size = smaller
        return f"--quantise {name} needs {size / GB:.1f} GB."
    fitting = [
        other.name
        for other in prices.instance_types().values()
        if other.compute is not None
        and (other.bf16 or model.dtype != "bf16")
        and (needed := model.memory(other)) is not None
        and memory.fit(needed, other).state == "fits"
    ]
    return f"It fits on {', '.join(fitting)}." if fitting else ""
