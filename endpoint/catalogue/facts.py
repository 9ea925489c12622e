"""What there is to know before a model is chosen: licence, memory, steps, speed and price.

`python -m endpoint models` prints it, docs/models.md lists it, and the page shows it for the models
on offer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from endpoint.catalogue import benchmarks, inferentia, memory, prices, quantisation
from endpoint.catalogue.benchmarks import Benchmark
from endpoint.catalogue.memory import GB
from endpoint.catalogue.models import NONE, Model


@dataclass(frozen=True)
class OnType:
    """A model on an instance type.

    Attributes:
        name: the type's.
        usd_per_hour: its price; None if it is unknown.
        gpu: its GPU, with the memory; empty if it is unknown.
        fit: `fits`, `tight` or `too large`; `compiled` where it has to be; empty if it is unknown.
        benchmark: the duration of a picture; None if nothing is known of it.
    """

    name: str
    usd_per_hour: float | None
    gpu: str
    fit: str
    benchmark: Benchmark | None


def on_types(model: Model, types: Iterable[str] | None = None) -> list[OnType]:
    """Return what is known of a model on its instance types, or on others."""
    found = []
    for name in model.instance_types if types is None else types:
        instance = prices.instance_types().get(name)
        if instance is None:
            found.append(OnType(name, None, "", "", None))
            continue
        needed = model.memory(instance) if instance.compute is not None else None
        found.append(
            OnType(
                name,
                instance.usd_per_hour,
                f"{instance.gpu}, {instance.gpu_gib} GB",
                memory.fit(needed, instance).state if needed else "",
                _benchmark(model, name),
            )
        )
    return found


def compiled(model: Model) -> list[OnType]:
    """Return what is known of a model on the types that serve it once it is compiled for them."""
    family = inferentia.of_model(model.name) if model.source else None
    types = on_types(model, family.serving_types()) if family else []
    return [replace(one, fit="compiled") for one in types]


def _benchmark(model: Model, instance_type: str) -> Benchmark | None:
    # They are of weights in 16 bits.
    known = benchmarks.known() if model.quantise == NONE else []
    pair = (model.name, instance_type)
    return next((one for one in known if (one.model, one.instance_type) == pair), None)


def gigabytes(model: Model) -> dict[str, float]:
    """Return the GPU memory in GB (10**9 bytes) by quantisation, on its first type; {} if unknown.

    Its own way comes first.
    """
    instance = prices.instance_types().get(model.instance_types[0])
    sizes: dict[str, float] = {}
    for name in dict.fromkeys((model.quantise, *quantisation.of_model(model))):
        needed = model.memory(instance, name) if instance else None
        refused = quantisation.refusal(replace(model, quantise=name), instance)
        if needed and not refused:
            sizes[name] = round(needed.total / GB, 1)
    return sizes


def to_dict(model: Model) -> dict[str, Any]:
    """Return everything as JSON."""
    return {
        "name": model.name,
        "title": model.title,
        "repository": model.repository,
        "revision": model.source.revision if model.source else None,
        "licence": model.licence,
        "duties": model.duties,
        "gated": model.gated,
        **{name: model.defaults.get(name) for name in ("steps", "width", "height")},
        "asynchronous": model.asynchronous,
        "backends": [model.backend, *model.backends],
        "quantise": model.quantise,
        "memory_gb": gigabytes(model),
        "instance_types": [_type_to_dict(one) for one in on_types(model)],
        "compiled": [_type_to_dict(one) for one in compiled(model)],
    }


def _type_to_dict(one: OnType) -> dict[str, Any]:
    benchmark = one.benchmark
    return {
        "name": one.name,
        "gpu": one.gpu,
        "usd_per_hour": one.usd_per_hour,
        "fit": one.fit,
        "seconds": benchmark.seconds if benchmark else None,
        "usd_per_1000": _rounded(benchmark),
        "computed": benchmark.computed if benchmark else None,
        "source": benchmark.source if benchmark else None,
    }


def _rounded(benchmark: Benchmark | None) -> float | None:
    price = benchmark.per_thousand if benchmark else None
    return None if price is None else round(price, 2)


def for_page(model: Model, types: Iterable[str]) -> dict[str, Any]:
    """Return what the page shows of a model that runs on these types; without what is unknown.

    Its steps are among the defaults, which the page has.
    """
    here = on_types(model, types)
    size = next(iter(gigabytes(model).values()), None)
    priced = [usd for one in here if (usd := _rounded(one.benchmark)) is not None]
    shown = {
        "title": model.title,
        "licence": model.licence,
        "duties": model.duties,
        "memory_gb": size,
        "usd_per_1000": priced[0] if priced else None,
        "instance_types": [one.name for one in here],
    }
    return {name: value for name, value in shown.items() if value}
