"""The settings of fine-tuning: where the gateway trains, which models, and at what price."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from chalicelib.generation import Name, Number, Rule, Whole

_BUCKET = re.compile(r"[a-z0-9.-]{3,63}")
_PREFIX = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*/)+")
_DEPLOYMENT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_ROLE = re.compile(r"arn:[a-z-]+:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9./:@_-]{0,254}")
_INSTANCE = re.compile(r"ml\.[a-z0-9-]{1,20}\.[a-z0-9]{1,20}|local")
_PER_MONTH = Whole("How many jobs a key can start in a month.", 1, 1_000)
EXAMPLE = (
    '{"bucket": "...", "deployment": "main", "role": "arn:...", "image": "...",'
    ' "code": "training/code/1a2b/", "models": {"sdxl": {...}}}'
)


def _set(rule: Rule) -> Any:
    return field(metadata={"rule": rule})


@dataclass(frozen=True)
class TrainableModel:
    """A model that can be fine-tuned, and what that takes.

    Attributes:
        weights: the prefix of its weights in the bucket.
        instance_type: of the training jobs.
        usd_per_hour: the price of the instance on demand.
        spot_share: what a spot instance costs, as a share of that.
        seconds_per_step: of a picture at `resolution`, without preservation.
        start_seconds: until the first step: the instance, the image and the weights.
        resolution: the model's own, in pixels.
        defaults: fields of a job that suit this model better than the trainer's own defaults.
    """

    weights: str
    instance_type: str
    usd_per_hour: float = _set(Number("The price of the instance.", 0, 1_000))
    spot_share: float = _set(Number("The share of it that a spot instance costs.", 0, 1))
    seconds_per_step: float = _set(Number("The duration of a step.", 0.001, 600))
    start_seconds: float = _set(Number("The time until the first step.", 0, 3_600))
    resolution: int = _set(Whole("The side of a picture.", 64, 1_536))
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> TrainableModel:
        """Read the entry of a model; raises ValueError or KeyError for any other."""
        names = {one.name for one in fields(cls)}
        _check_names(entry, names, names - {"defaults"})
        values = {
            one.name: one.metadata["rule"].clean(entry[one.name])
            for one in fields(cls)
            if "rule" in one.metadata
        }
        weights = _matching("weights", _PREFIX, entry["weights"])
        instance_type = _matching("instance_type", _INSTANCE, entry["instance_type"])
        defaults = entry.get("defaults", {})
        if not isinstance(defaults, dict):
            raise TypeError("defaults is not an object")
        return cls(weights, instance_type, **values, defaults=defaults)


@dataclass(frozen=True)
class TrainingSettings:
    """Where the gateway trains, and which models.

    Attributes:
        bucket: has data sets, jobs, weights and adapters.
        deployment: is part of the names of training jobs.
        role: the ARN of the role that training jobs have.
        image: the address of the container image.
        code: the prefix of the trainer in the bucket.
        models: that can be trained, by name; the first is the default.
        open: whether a gateway without keys trains for everyone.
        per_month: the number of jobs that a key can start in a calendar month, in UTC.
        prodigy: whether the trainer has the package of the optimizer Prodigy.
    """

    bucket: str
    deployment: str
    role: str
    image: str
    code: str
    models: Mapping[str, TrainableModel]
    open: bool = False
    per_month: int = 20
    prodigy: bool = False

    @classmethod
    def read(cls, text: str) -> TrainingSettings | None:
        """Read EASEL_TRAINING; None if it is empty.

        Raises:
            ValueError, TypeError, KeyError: if it is anything else than this class's fields.
        """
        if not text:
            return None
        entry = json.loads(text)
        names = {one.name for one in fields(cls)}
        _check_names(entry, names, names - {"open", "per_month", "prodigy"})
        models = {
            Name("").clean(name): TrainableModel.from_dict(model)
            for name, model in entry["models"].items()
        }
        if not models:
            raise ValueError("models needs one at least")
        for name in ("open", "prodigy"):
            if not isinstance(entry.get(name, False), bool):
                raise TypeError(f"{name} is true or false")
        return cls(
            bucket=_matching("bucket", _BUCKET, entry["bucket"]),
            deployment=_matching("deployment", _DEPLOYMENT, entry["deployment"]),
            role=_matching("role", _ROLE, entry["role"]),
            image=_matching("image", _IMAGE, entry["image"]),
            code=_matching("code", _PREFIX, entry["code"]),
            models=models,
            open=entry.get("open", False),
            per_month=_PER_MONTH.clean(entry.get("per_month", cls.per_month)),
            prodigy=entry.get("prodigy", False),
        )


def _check_names(entry: Any, known: set[str], required: set[str]) -> None:
    if not isinstance(entry, dict):
        raise TypeError("is not an object")
    wrong = set(entry) - known | required - set(entry)
    if wrong:
        raise KeyError(", ".join(sorted(wrong)))


def _matching(name: str, spelling: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or not spelling.fullmatch(value):
        raise ValueError(f"{name} is not spelled like one")
    return value
