"""The gateway's settings: the only reader of the environment."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chalicelib.access_settings import PLACE, Protection, read_place
from chalicelib.backends.backend import Backend
from chalicelib.backends.setting import EASEL
from chalicelib.backends.setting import read as read_backend
from chalicelib.description import Description
from chalicelib.facts import Facts
from chalicelib.generation import (
    LARGEST_AREA,
    RULES,
    GenerationRequest,
    Name,
    Number,
    Rule,
    Whole,
    painted_size,
)
from chalicelib.training_settings import EXAMPLE, TrainingSettings

# The fields that a model decides if a request leaves them unset.
_DEFAULTS = ("steps", "guidance_scale", "width", "height")
# An hour is the longest run that SageMaker allows an asynchronous invocation.
_SECONDS = Number("How long a picture takes.", 0, 3_600)
_USD_PER_HOUR = Number("The price of an instance of the endpoint.", 0, 1_000)
_LORA = Name("A LoRA adapter.")
_STEP = Whole("What a number is a multiple of.", 1, 1_536)
# `deploy` adds this file to the package, because a vocabulary takes more than the 4 KB that Lambda
# allows for all environment variables.
DESCRIPTIONS = Path(__file__).parent / "descriptions.json"


class BadSetting(RuntimeError):
    """An environment variable is missing or invalid; the message has its origin and an example.

    Attributes:
        variable: its name.
        problem: what is wrong with it, as the rest of a sentence that its name begins.
        example: a value that can be read.
    """

    def __init__(self, variable: str, problem: str, example: str) -> None:
        self.variable, self.problem, self.example = variable, problem, example
        super().__init__(
            f"{variable} {problem}. It is set by `./setup.sh run` and in gateway/.chalice/"
            f"config.json for a deployment; for example: {variable}={example}"
        )


@dataclass(frozen=True)
class Queue:
    """An asynchronous endpoint, and where in S3 its jobs are stored."""

    endpoint: str
    bucket: str
    prefix: str

    @property
    def place(self) -> tuple[str, str]:
        """Bucket and prefix."""
        return self.bucket, self.prefix


@dataclass(frozen=True)
class Lease:
    """What ends a real-time endpoint that nobody uses.

    Attributes:
        group: of the schedule in EventBridge Scheduler.
        name: of the schedule.
        wake: whether a caller with a key may have the endpoint created again.
    """

    group: str
    name: str
    wake: bool = False

    @property
    def deployment(self) -> str:
        """The deployment's name, without which no command of its owner works."""
        return self.group.removeprefix("easel-")


@dataclass(frozen=True)
class Model:
    """A model on offer, with a real-time endpoint, an asynchronous one, or both.

    Attributes:
        name: as requests name it.
        endpoint: the real-time endpoint, which is tried first if there is one.
        queue: the asynchronous endpoint, used if there is no other or the other is unavailable.
        pictures: bucket and prefix in S3 where pictures of the real-time endpoint are stored whose
            requests name the seed; the place of the queue's jobs, if there is a queue; None if they
            are not stored.
        revision: names the weights; other weights make another picture.
        defaults: the model's own steps, guidance scale, width and height, as far as configured.
        seconds: how long a picture takes once the model is loaded; None if it was not measured.
        usd_per_hour: the price of the dearest instance type of its endpoint; None if it is unknown.
        loras: the LoRA adapters that a request can name, without those of `adapters`; None if they
            are not configured.
        adapters: bucket and prefix in S3 where more adapters are published, replaced and deleted
            at any time; None if there are none.
        largest_area: in pixels; the model paints larger pictures smaller, and scales them up. None
            for a model that paints every size.
        rules: of the fields whose limits are narrower for this model than the contract's.
        description: what the model says about itself to people.
        facts: what the catalogue says of it.
        lease: of the real-time endpoint; None if it has none.
        backend: what answers in the container of its endpoints.
    """

    name: str
    endpoint: str | None = None
    queue: Queue | None = None
    pictures: tuple[str, str] | None = None
    revision: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    usd_per_hour: float | None = None
    loras: tuple[str, ...] | None = None
    adapters: tuple[str, str] | None = None
    largest_area: int | None = None
    rules: Mapping[str, Whole] = field(default_factory=dict)
    description: Description = field(default_factory=Description)
    facts: Facts = field(default_factory=Facts)
    lease: Lease | None = None
    backend: Backend = EASEL

    @property
    def place(self) -> tuple[str, str] | None:
        """Bucket and prefix where its pictures are stored; None if none of them are."""
        return self.queue.place if self.queue else self.pictures

    @property
    def limits(self) -> dict[str, Rule]:
        """The rules of the fields whose limits are narrower, for the model or for its backend."""
        rules = self.backend.abilities.rules
        return {**rules, **{name: _both(rules.get(name), own) for name, own in self.rules.items()}}

    def describe(self) -> dict[str, Any]:
        """Return the public description; what is not configured is empty or null.

        `limits`, the largest area, the facts and the parts of the description are there only for
        models that have them; what is missing, and the formats, only for a backend other than
        Easel's own.
        """
        limits = {name: rule.describe() for name, rule in self.limits.items()}
        return {
            "name": self.name,
            "asynchronous": self.endpoint is None,
            "defaults": dict(self.defaults),
            "seconds": self.seconds,
            "loras": list(self.loras or ()),
            **({"largest_area": self.largest_area} if self.largest_area else {}),
            **({"limits": limits} if limits else {}),
            **self._backend(),
            **({"facts": facts} if (facts := self.facts.to_dict()) else {}),
            **self.description.to_dict(),
        }

    def _backend(self) -> dict[str, Any]:
        if self.backend.name == EASEL.name:
            return {}
        return {
            "backend": self.backend.title,
            "unsupported": list(self.backend.missing),
            "formats": list(self.backend.abilities.formats),
        }

    def painted(self, request: GenerationRequest) -> str | None:
        """Return the size at which a picture is painted, such as 128x64, if it is scaled up."""
        width = request.width or self.defaults.get("width")
        height = request.height or self.defaults.get("height")
        if width is None or height is None:
            return None  # what the model decides was not configured
        painted = painted_size(width, height, self.largest_area)
        return None if painted == (width, height) else f"{painted[0]}x{painted[1]}"


@dataclass(frozen=True)
class Settings:
    """What the gateway was deployed with.

    Attributes:
        models: the models on offer by name; the first is the default.
        deadline_seconds: how long a response may take. API Gateway gives up at 29 s, counted from
            before a cold start; the difference is for the start and for sending the response.
        log_prompts: whether prompts may appear in the log.
        most_waiting: the number of requests that can wait for asynchronous pictures at once.
        protection: keys, limits and the prompt filter.
        training: where and what the gateway fine-tunes; None if it does not.
        spend: bucket and prefix in S3 where the spending is counted; None if it is not.
        usage: bucket and prefix in S3 where the use of pictures is recorded; None if it is not.
        batches: bucket and prefix in S3 of files and batches; None if there are none.
    """

    models: Mapping[str, Model]
    deadline_seconds: float
    log_prompts: bool
    most_waiting: int = 50
    protection: Protection = field(default_factory=Protection)
    training: TrainingSettings | None = None
    spend: tuple[str, str] | None = None
    usage: tuple[str, str] | None = None
    batches: tuple[str, str] | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read every variable at once.

        Raises:
            BadSetting: for the first variable that is missing or cannot be read.
        """
        read = _Reader(environment)
        descriptions = read(
            "EASEL_DESCRIPTIONS", _descriptions, '{"sd": {"about": "..."}}', default=_packaged()
        )
        models = read("EASEL_MODELS", _models, '{"sd": {"endpoint": "easel-sd"}}')
        settings = cls(
            models={
                name: replace(model, **descriptions.get(name, {})) for name, model in models.items()
            },
            deadline_seconds=read("EASEL_DEADLINE_SECONDS", _deadline, "24", default="24"),
            log_prompts=read("EASEL_LOG_PROMPTS", _switch, "on", default="off"),
            most_waiting=read("EASEL_MOST_WAITING", _count, "50", default="50"),
            protection=Protection.read(read),
            training=read("EASEL_TRAINING", TrainingSettings.read, EXAMPLE, default=""),
            spend=read("EASEL_SPEND", read_place, "s3://easel-main/spend/", default=""),
            usage=read("EASEL_USAGE", read_place, "s3://easel-main/usage/", default=""),
            batches=read("EASEL_BATCHES", read_place, "s3://easel-main/", default=""),
        )
        settings.check_budgets()
        return settings

    def check_budgets(self) -> None:
        """Raise BadSetting if a key has a budget, and what its pictures cost cannot be counted.

        Without a price nothing would ever use the budget up.
        """
        if all(key.usd_per_month is None for key in self.protection.keys):
            return
        if self.usage is None:
            problem = "is not set, but a key of EASEL_API_KEYS has usd_per_month"
            raise BadSetting("EASEL_USAGE", problem, "s3://easel-main/usage/")
        for name, model in self.models.items():
            if model.usd_per_hour is None:
                problem = f"has no usd_per_hour for {name!r}, but a key has usd_per_month"
                example = '{"sd": {"endpoint": "easel-sd", "usd_per_hour": 1.41}}'
                raise BadSetting("EASEL_MODELS", problem, example)

    def painted(self, request: GenerationRequest) -> str | None:
        """Return the size at which a request's model paints it, as `Model.painted`."""
        model = self.models.get(str(request.model))
        return model.painted(request) if model else None

    @property
    def default_model(self) -> str:
        # A dict keeps the order of the JSON object.
        return next(iter(self.models))


def route_prefix(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the path that API Gateway's stage adds on AWS, where it has to be added to routes."""
    return environment.get("EASEL_ROUTE_PREFIX") or None


@dataclass(frozen=True)
class _Reader:
    environment: Mapping[str, str]

    def __call__(
        self, variable: str, cast: Callable[[str], Any], example: str, default: str | None = None
    ) -> Any:
        text = self.environment.get(variable, default)
        if text is None:
            raise BadSetting(variable, "is not set", example)
        try:
            return cast(text)
        except KeyError as error:
            raise BadSetting(
                variable, f"cannot be read (unknown or missing: {error})", example
            ) from error
        # Valid JSON of another shape, deeply nested JSON, and dates before the year 1 in UTC.
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            reason = error if text.strip() else "it is empty"
            raise BadSetting(variable, f"cannot be read ({reason})", example) from error


def _packaged() -> str:
    """Return the descriptions in the package; an undeployed gateway has none."""
    return DESCRIPTIONS.read_text(encoding="utf-8") if DESCRIPTIONS.is_file() else "{}"


def _descriptions(text: str) -> dict[str, dict[str, Any]]:
    """Return the description and the facts of each model, as fields of `Model`."""
    return {name: _description(entry) for name, entry in json.loads(text).items()}


def _description(entry: object) -> dict[str, Any]:
    if not isinstance(entry, Mapping) or "facts" not in entry:
        return {"description": Description.from_dict(entry)}
    rest = {name: value for name, value in entry.items() if name != "facts"}
    facts = Facts.from_dict(entry["facts"])
    return {"description": Description.from_dict(rest), "facts": facts}


def _models(text: str) -> dict[str, Model]:
    entries = json.loads(text)
    models = {name: _model(name, entry) for name, entry in entries.items()}
    if not models:
        raise ValueError("no model in it")
    return models


def _model(name: str, entry: dict[str, Any]) -> Model:
    # The name is part of job ids and S3 keys.
    Name("a model").clean(name)
    fields = dict(entry)
    endpoints = {"endpoint", "asynchronous"} & set(fields)
    endpoint, revision = fields.pop("endpoint", None), fields.pop("revision", "")
    queue = _queue(name, fields.pop("asynchronous")) if "asynchronous" in fields else None
    lease = _lease(name, fields.pop("lease")) if "lease" in fields else None
    backend = read_backend(fields.pop("backend", None))
    pictures = _place(fields.pop("pictures"), "pictures") if "pictures" in fields else None
    known = {"defaults", "seconds", "usd_per_hour", "loras", "adapters", "limits", "largest_area"}
    if not endpoints or set(fields) - known:
        raise ValueError(f"{name!r} needs an endpoint, an asynchronous one or both")
    if not isinstance(endpoint, str | None) or not isinstance(revision, str):
        raise TypeError(f"{name!r} has something other than text for endpoint or revision")
    if pictures and (endpoint is None or (queue and queue.place != pictures)):
        raise ValueError(
            f"{name!r} has pictures without a real-time endpoint, or elsewhere than its jobs"
        )
    model = Model(
        name,
        endpoint,
        queue,
        pictures,
        revision,
        **_properties(fields),
        lease=lease,
        backend=backend,
    )
    _check_backend(model)
    # A backend that is told the paths of adapters has no others.
    return replace(model, loras=tuple(backend.adapters)) if backend.adapters else model


def _check_backend(model: Model) -> None:
    """Raise ValueError if a model's backend cannot do what is configured."""
    backend = model.backend
    _check_defaults(model)
    if model.queue and not backend.abilities.raw:
        raise ValueError(
            f"{model.name!r} cannot be asynchronous: {backend.title} answers with JSON instead of"
            " the picture itself"
        )
    if model.largest_area and backend.name != EASEL.name:
        raise ValueError(
            f"{model.name!r} has a largest_area, but {backend.title} scales nothing up"
        )
    if (model.loras or model.adapters) and ("lora" in backend.missing or backend.adapters):
        raise ValueError(f"{model.name!r} has adapters that {backend.title} cannot use")


def _check_defaults(model: Model) -> None:
    backend = model.backend
    for name in sorted(backend.abilities.required):
        if name not in model.defaults:
            raise ValueError(
                f"{model.name!r} needs {name} in its defaults, because {backend.title} has another"
                " default for all models"
            )
    for name, rule in backend.abilities.rules.items():
        try:
            if name in model.defaults:
                rule.clean(model.defaults[name])
        except ValueError as error:
            raise ValueError(
                f"{model.name!r}: the default of {name} {error} for {backend.title}"
            ) from error


def _lease(name: str, entry: dict[str, Any]) -> Lease:
    group, _, schedule = entry["schedule"].partition("/")
    wake = entry.get("wake", False)
    if set(entry) - {"schedule", "wake"} or not group or not schedule or wake not in (True, False):
        raise ValueError(
            f"{name!r} needs a lease's schedule, group/name, and wake as true or false"
        )
    return Lease(group, schedule, bool(wake))


def _properties(fields: dict[str, Any]) -> dict[str, Any]:
    """Read what is configured of a model besides its endpoints."""
    properties: dict[str, Any] = {}
    if "defaults" in fields:
        properties["defaults"] = {
            name: _default(name, value) for name, value in fields["defaults"].items()
        }
    if "seconds" in fields:
        properties["seconds"] = _SECONDS.clean(fields["seconds"])
    if "usd_per_hour" in fields:
        properties["usd_per_hour"] = _USD_PER_HOUR.clean(fields["usd_per_hour"])
    if "largest_area" in fields:
        properties["largest_area"] = LARGEST_AREA.clean(fields["largest_area"])
    if "loras" in fields:
        properties["loras"] = tuple(_LORA.clean(name) for name in fields["loras"])
    if "adapters" in fields:
        properties["adapters"] = _place(fields["adapters"], "adapters")
    if "limits" in fields:
        properties["rules"] = {
            name: _narrowed(name, limits) for name, limits in fields["limits"].items()
        }
    return properties


def _place(address: str, name: str) -> tuple[str, str]:
    place = PLACE.fullmatch(address)
    if place is None:
        raise ValueError(f"{name} must be s3://bucket/prefix/")
    return place[1], place[2]


def _narrowed(name: str, limits: Mapping[str, Any]) -> Whole:
    """Return the rule of a field with a model's own limits, in words of JSON Schema."""
    rule = RULES[name]
    if not isinstance(rule, Whole) or set(limits) - {"minimum", "maximum", "multipleOf"}:
        raise ValueError(f"{name!r} has limits other than minimum, maximum and multipleOf")
    numbers = {word: rule.clean(limit) for word, limit in limits.items() if word != "multipleOf"}
    return replace(
        rule,
        least=numbers.get("minimum", rule.least),
        most=numbers.get("maximum", rule.most),
        step=_STEP.clean(limits.get("multipleOf", rule.step)),
    )


def _both(backend: Rule | None, model: Whole) -> Whole:
    """Return the rule of the values that a backend and a model both take."""
    if not isinstance(backend, Whole):
        return model
    return replace(
        model,
        least=max(backend.least, model.least),
        most=min(backend.most, model.most),
        step=math.lcm(backend.step, model.step),
    )


def _default(name: str, value: object) -> object:
    if name not in _DEFAULTS:
        raise ValueError(
            f"{name!r} is not a default of a model; the defaults are {', '.join(_DEFAULTS)}"
        )
    return RULES[name].clean(value)


def _queue(name: str, entry: dict[str, Any]) -> Queue:
    place = PLACE.fullmatch(entry.get("jobs", ""))
    if set(entry) != {"endpoint", "jobs"} or place is None:
        raise ValueError(
            f"{name!r} needs an asynchronous endpoint and s3://bucket/prefix/ for jobs"
        )
    return Queue(entry["endpoint"], *place.groups())


def _deadline(text: str) -> float:
    seconds = float(text)
    # Lambda's own time-out is 29 s, and the response must still be sent.
    if not 1 <= seconds <= 27:
        raise ValueError("from 1 to 27 seconds")
    return seconds


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1_000:
        raise ValueError("from 1 to 1,000")
    return number


def _switch(text: str) -> bool:
    return {"on": True, "off": False}[text.lower()]
