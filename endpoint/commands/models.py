"""The models of the catalogue: licence, memory, steps, instance types and price.

    python -m endpoint models           a table for people
    python -m endpoint models --json    the same for programs

Makes no calls and needs no account.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence

from endpoint.catalogue import facts, models, prices
from endpoint.catalogue.models import NONE, Model


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m endpoint models",
        description="List the models: licence, memory, steps, instance types, price.",
    )
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    return parser


def lines(model: Model) -> Iterator[str]:
    """Yield a model in lines of text."""
    yield f"{model.name}: {model.title}"
    yield f"  licence   {model.licence}{'' if not model.gated else '; gated: needs HF_TOKEN'}"
    if model.duties:
        yield f"            {model.duties}"
    steps, width, height = (model.defaults[name] for name in ("steps", "width", "height"))
    answer = "asynchronous" if model.asynchronous else "in real time"
    unit = "step" if steps == 1 else "steps"
    yield f"  picture   {steps} {unit}, {width} x {height}, {answer}"
    sizes = [
        f"{size:g} GB" if name == model.quantise else f"--quantise {name} {size:g}"
        for name, size in facts.gigabytes(model).items()
        if name in {model.quantise, NONE} or size < facts.gigabytes(model)[model.quantise]
    ]
    yield f"  memory    {'; '.join(sizes)}"
    if model.backends:
        yield f"  backends  {', '.join(f'--backend {name}' for name in model.backends)}"
    for one in [*facts.on_types(model), *facts.compiled(model)]:
        price = f"{one.usd_per_hour:.3f} USD/h" if one.usd_per_hour else "price unknown"
        speed = "not measured"
        if one.benchmark and one.benchmark.per_thousand:
            how = "computed" if one.benchmark.computed else "published"
            speed = f"{one.benchmark.seconds:g} s, {how}:"
            speed += f" {one.benchmark.per_thousand:.2f} USD per 1,000"
        yield f"  {one.name:16}{one.gpu:24}{one.fit:11}{price:13} {speed}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the models of the catalogue; return the exit code."""
    options = parser().parse_args(argv)
    listed = list(models.read().values())
    if options.json:
        print(json.dumps([facts.to_dict(model) for model in listed], indent=2))
        return 0
    for model in listed:
        print("\n".join(lines(model)), end="\n\n")
    print(f"Memory is computed: docs/models.md. {prices.provenance()}")
    print("On ml.inf2, a model has to be compiled first: docs/inferentia.md.")
    print("A price per 1,000 pictures is of a busy instance, with the gateway.")
    print("What a licence requires is a summary and no legal advice: read the licence.")
    return 0
