"""The tables in the README and docs/ that are generated from the code and its data files.

    python -m tests.page_tables

writes them again after a field, an error, a price, the catalogue or a scaling policy has changed;
a test fails if this is necessary.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

# As pyproject.toml has it for pytest.
sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from chalicelib import errors
from chalicelib.batches.openai import QUALITIES
from chalicelib.generation import describe
from endpoint.catalogue import benchmarks, facts, models, prices, quantisation, training
from endpoint.catalogue.beliefs import Belief, beliefs
from endpoint.catalogue.benchmarks import Benchmark
from endpoint.core.backends import setting
from endpoint.core.backends.backend import OPTIONAL
from endpoint.core.training_jobs import price
from endpoint.core.training_jobs.job import Job
from endpoint.costs import compiling, estimate, leases
from tests.model_package.servers import cases
from tests.packages import ROOT

README, DOCS = ROOT / "README.md", ROOT / "docs"


def tables() -> dict[tuple[Path, str], Callable[[], str]]:
    """Return what makes each table, by its page and the name of its marker."""
    # Seconds of simulation each.
    growth = {
        (DOCS / "costs.md", f"growth-{benchmark.model}"): partial(estimate.growth_table, benchmark)
        for benchmark in _first_of_each_model()
    }
    return {
        (README, "fields"): field_table,
        (README, "costs"): estimate.price_table,
        (DOCS / "gateway.md", "errors"): error_table,
        (DOCS / "model-package.md", "servers"): cases.table,
        (DOCS / "dialects.md", "qualities"): quality_table,
        (DOCS / "prove.md", "beliefs"): lambda: belief_table(proof()),
        (DOCS / "backends.md", "backends"): backend_table,
        (README, "proof"): lambda: proof_sentence(proof()),
        (DOCS / "models.md", "models"): model_table,
        (DOCS / "models.md", "duties"): duty_table,
        (DOCS / "models.md", "quantised"): quantised_table,
        (DOCS / "costs.md", "training"): training_table,
        (DOCS / "costs.md", "leases"): leases.lease_table,
        (DOCS / "inferentia.md", "compared"): compiling.comparison_table,
        (DOCS / "inferentia.md", "compiling"): compiling.compile_table,
        (DOCS / "costs.md", "woken"): leases.woken,
        **growth,
    }


def _first_of_each_model() -> list[Benchmark]:
    first: dict[str, Benchmark] = {}
    for benchmark in benchmarks.published():
        first.setdefault(benchmark.model, benchmark)
    return list(first.values())


def field_table() -> str:
    rows = [
        f"| `{name}` | {limits(field)} | {default(name, field)} | {field['description']} |\n"
        for name, field in describe()["properties"].items()
    ]
    return "| Field | Values | Default | Meaning |\n|---|---|---|---|\n" + "".join(rows)


def limits(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if "maxLength" in field:
        return f"{field['minLength']} to {field['maxLength']:,} characters"
    if "examples" in field:
        return f"such as `{field['examples'][0]}`"
    if "pattern" in field:
        return "a name"
    step = f", multiples of {field['multipleOf']}" if "multipleOf" in field else ""
    return f"{field['minimum']:,} to {field['maximum']:,}{step}"


def default(name: str, field: Mapping[str, Any]) -> str:
    if name in describe()["required"]:
        return "required, in the path"
    return str(field.get("x-unset") or (f"`{field['default']}`" if field["default"] else "none"))


def model_table() -> str:
    """Return the memory, the steps and the price of each model on each instance type."""
    rows = []
    for model in models.read().values():
        gigabytes = facts.gigabytes(model)[model.quantise]
        for on_type in facts.on_types(model):
            known = on_type.benchmark
            price = "not measured"
            if known and known.per_thousand:
                how = "computed" if known.computed else "published"
                price = f"{known.per_thousand:.2f}, {how}"
            rows.append(
                f"| `{model.name}` | {model.defaults['steps']} | {gigabytes:g} | {on_type.name} "
                f"| {on_type.gpu} | {on_type.fit} | {price} |\n"
            )
    head = "| model | steps | GB of GPU memory | instance type | GPU | | USD for 1,000 pictures |\n"
    return head + "|---|---|---|---|---|---|---|\n" + "".join(rows)


def duty_table() -> str:
    """Return what the licence of each model requires."""
    rows = [
        f"| `{model.name}` | {model.title} | {model.licence} | {model.duties} |\n"
        for model in models.read().values()
    ]
    return "| model | | licence | duties |\n|---|---|---|---|\n" + "".join(rows)


def quantised_table() -> str:
    """Return the GB of GPU memory of each model by quantisation."""
    rows = []
    for model in models.read().values():
        sizes = facts.gigabytes(model)
        cells = [f"{sizes[name]:g}" if name in sizes else "" for name in quantisation.NAMES]
        rows.append(f"| `{model.name}` | {' | '.join(cells)} |\n")
    names = " | ".join(f"`{name}`" for name in quantisation.NAMES)
    return f"| model | {names} |\n|---|{'---|' * len(quantisation.NAMES)}\n" + "".join(rows)


# What depends on how the endpoint was made.
_TAKEN_ALSO = {
    "vllm-omni": "; LoRA with adapters in the model's folder",
    "openai-images": "; more with `--accepts`",
}


def backend_table() -> str:
    """Return what each backend can carry out, and who creates its endpoints."""
    rows = ["| `--backend` | Server | Takes | Formats | Asynchronous | Created by Easel for |"]
    rows.append("|---|---|---|---|---|---|")
    for name in setting.NAMES:
        backend = setting.read(name)
        abilities = backend.abilities
        fields = [field.replace("_", " ") for field in OPTIONAL if field in abilities.fields]
        taken = "everything" if not backend.missing else ", ".join(fields)
        taken += _TAKEN_ALSO.get(name, "")
        served = [model.name for model in models.read().values() if name in model.backends]
        own = "every model" if name == "easel" else ", ".join(f"`{one}`" for one in served)
        cells = (
            f"`{name}`",
            backend.title,
            taken,
            ", ".join(abilities.formats),
            "yes" if abilities.raw else "no",
            own or "no model: `deploy --endpoint`",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, ""])


def training_table() -> str:
    """Return what 1,000 steps take and cost, for each family and instance type."""
    rows = []
    for family in training.families().values():
        for name in family.instance_types:
            usd = prices.instance_types()[name].usd_per_hour
            made = [
                price.estimate(
                    Job(name="x", steps=1_000),
                    pictures=10,
                    seconds_per_step=training.seconds_per_step(family, name) or 0.0,
                    start_seconds=training.start_seconds(),
                    resolution=family.resolution,
                    usd_per_hour=usd,
                    spot_share=share,
                )
                for share in (training.spot_share(), None)
            ]
            step = training.seconds_per_step(family, name) or 0.0
            rows.append(
                f"| `{family.model}` | {name} | {step:.2f} s | "
                f"{made[0].seconds.expected / 60:.0f} min | {made[0].usd.expected:.2f} | "
                f"{made[1].usd.expected:.2f} | {made[1].usd.most:.2f} |\n"
            )
    head = "| model | instance type | a step, computed | 1,000 steps with the start | USD, spot |"
    head += " USD, on demand | USD at most, on demand |\n|---|---|---|---|---|---|---|\n"
    return head + "".join(rows)


def error_table() -> str:
    rows = [
        f"| {error.status} | `{error.code}` | {error.retry_after or ''} | {first_line(error)} |\n"
        for error in errors_with_a_code(errors.GatewayError)
    ]
    return "| Status | Code | `Retry-After` | Meaning |\n|---|---|---|---|\n" + "".join(rows)


def errors_with_a_code(parent: type) -> Iterator[Any]:
    """Yield the classes below `parent` that a response can carry, in the order of the module."""
    for error in parent.__subclasses__():
        if "code" in vars(error):
            yield error
        yield from errors_with_a_code(error)


def first_line(error: type) -> str:
    return " ".join((error.__doc__ or "").split("\n\n")[0].split())


def quality_table() -> str:
    def steps(share: float) -> str:
        return "the model's default" if share == 1 else f"{share:g} times the model's default"

    rows = [f"| `{name}` | {steps(share)} |\n" for name, share in QUALITIES.items()]
    return "| `quality` | Steps |\n|---|---|\n" + "".join(rows)


def proof() -> dict[str, Any] | None:
    """Return the record of `prove` in docs/proof/; None while there is none."""
    file = DOCS / "proof" / "proof.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else None


def belief_table(record: Mapping[str, Any] | None) -> str:
    found = {each["id"]: each["verdict"] for each in record["beliefs"]} if record else {}
    when = f", {record['date']}, {record['region']}" if record else ""

    def status(belief: Belief) -> str:
        verdict = found.get(belief.id, "not checked")
        if verdict != "not checked":
            return f"{verdict}{when}"
        return "not tried on AWS" + (f"; not by `prove`: {belief.why_not}" * (not belief.check))

    rows = [f"| {each.belief} | {each.source} | {status(each)} |\n" for each in beliefs()]
    return "| Belief | Source | On AWS |\n|---|---|---|\n" + "".join(rows)


def proof_sentence(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return (
            "Deployment has [not been tried on AWS](docs/prove.md) yet, only against moto and the\n"
            "emulator.\n"
        )
    outcome = "with success" if record["good"] else "with failures"
    return (
        f"Tried on AWS {outcome}, {record['date']}, {record['region']}:\n"
        "[docs/proof/proof.md](docs/proof/proof.md).\n"
    )


def block(name: str) -> re.Pattern[str]:
    """Return a pattern whose second group is the text between the markers of a page."""
    return re.compile(f"(<!-- {name}:.*?-->\n)(.*?)(<!-- /{name} -->)", re.DOTALL)


def main() -> int:
    """Write every table into its page; return the exit code."""
    for (page, name), make in tables().items():
        table = make()
        text, count = block(name).subn(
            lambda match, table=table: f"{match[1]}{table}{match[3]}", page.read_text("utf-8")
        )
        if count != 1:
            print(f"{page.name} has no markers for {name}", file=sys.stderr)
            return 1
        page.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
