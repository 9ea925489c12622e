"""What training a model takes on an instance type, from `training.json`.

    seconds per step = seconds of a picture / passes of a picture x passes of a step x 2

The seconds of pictures are the published ones of `painting_seconds.json`. Nothing of this has been
measured on SageMaker.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from endpoint.catalogue import benchmarks, models, prices

_FILE = Path(__file__).with_name("training.json")


@dataclass(frozen=True)
class Trainable:
    """A family of models that can be trained.

    Attributes:
        pipeline: diffusers' class, as `model_index.json` names it.
        model: the model of the catalogue whose durations stand for the family.
        resolution: the side of its pictures, in pixels.
        instance_types: the types to train on, in order of preference.
    """

    pipeline: str
    model: str
    resolution: int
    instance_types: tuple[str, ...]


@cache
def _read() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_FILE.read_text("utf-8"))
    return data


def families() -> dict[str, Trainable]:
    """Return the families that can be trained, by the class of their pipelines."""
    return {
        name: Trainable(name, entry["model"], entry["resolution"], tuple(entry["instance_types"]))
        for name, entry in _read()["families"].items()
    }


def of_model(model: str) -> Trainable | None:
    """Return the family of a model of the catalogue; None if it cannot be trained.

    Distilled models (sd-turbo, sdxl-turbo) lose their few steps by training, and others have
    another architecture.
    """
    pipeline = _read()["models"].get(model)
    return families()[pipeline] if pipeline else None


def trainable_models() -> tuple[str, ...]:
    """Return the names of the models of the catalogue that can be trained."""
    return tuple(_read()["models"])


def start_seconds() -> float:
    """Return the seconds until the first step."""
    return float(_read()["start_seconds"])


def spot_share() -> float:
    """Return the share of the price on demand that a spot instance is expected to cost."""
    return float(_read()["spot_share"])


def seconds_per_step(family: Trainable, instance_type: str) -> float | None:
    """Return the seconds of a step with one picture of the family's size.

    None for an instance type without a known GPU.
    """
    kind = prices.instance_types().get(instance_type)
    speed = _read()["gpu_speed"]
    if kind is None or kind.gpu not in speed:
        return None
    known = [one for one in benchmarks.published() if one.model == family.model and one.seconds]
    # The GPU's own, if there is one.
    known.sort(key=lambda one: one.instance_type != instance_type)
    nearest = known[0]
    steps = models.read()[family.model].defaults["steps"]
    # With guidance, an inference step is two passes.
    passes = (nearest.seconds or 0) / (2 * steps)
    its_gpu = prices.instance_types()[nearest.instance_type].gpu
    slower = float(_read()["slower_than_computed"]) * speed[its_gpu] / speed[kind.gpu]
    return float(passes * _read()["passes_per_step"] * slower)
