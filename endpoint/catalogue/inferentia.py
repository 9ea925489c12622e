"""What compiling for Inferentia2 takes, and where it can be served, from `inferentia.json`.

Nothing of this has been measured: there are estimates and published reports, with their sources.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from endpoint.catalogue import prices

_FILE = Path(__file__).with_name("inferentia.json")


@dataclass(frozen=True)
class Compilable:
    """A family of models that can be compiled.

    Attributes:
        pipeline: diffusers' class, as `model_index.json` names it.
        models: those of the catalogue.
        size: the side of its pictures in pixels, for which the minutes are.
        compile_gib: the main memory that the compiler needs.
        compile_minutes: the least, expected and most minutes of compiling.
        host_gib: the main memory that loading the result needs; the sizes of instances are larger
            or smaller than this, not equal by chance.
    """

    pipeline: str
    models: tuple[str, ...]
    size: int
    compile_gib: int
    compile_minutes: tuple[float, float, float]
    host_gib: int

    def compile_types(self) -> tuple[str, ...]:
        """Return the instance types that can compile it, the cheapest first."""
        types = prices.cpu_types().values()
        return tuple(kind.name for kind in types if kind.ram_gib >= self.compile_gib)

    def serving_types(self) -> tuple[str, ...]:
        """Return the instance types that can load the result, the cheapest first."""
        types = [kind for kind in prices.instance_types().values() if kind.is_inferentia]
        types.sort(key=lambda kind: kind.usd_per_hour)
        return tuple(kind.name for kind in types if self.serves_on(kind.name))

    def serves_on(self, instance_type: str) -> bool:
        """Whether a type has the main memory to load the result; unknown sizes are taken."""
        kind = prices.instance_types().get(instance_type)
        return kind is None or kind.ram_gib >= self.host_gib


@cache
def _read() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_FILE.read_text("utf-8"))
    return data


def start_seconds() -> float:
    """Return the seconds until a job begins to compile."""
    return float(_read()["start_seconds"])


@cache
def families() -> dict[str, Compilable]:
    """Return the families that can be compiled, by the class of their pipelines."""
    return {
        name: Compilable(
            name,
            tuple(entry["models"]),
            entry["size"],
            entry["compile_gib"],
            tuple(entry["compile_minutes"]),
            entry["host_gib"],
        )
        for name, entry in _read()["families"].items()
    }


def of_model(model: str) -> Compilable | None:
    """Return the family of a model of the catalogue; None if it cannot be compiled."""
    for family in families().values():
        if model in family.models:
            return family
    return None
