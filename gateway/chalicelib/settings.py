"""The gateway's settings: the only reader of the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.generation import Name


class BadSetting(RuntimeError):
    """An environment variable is missing or cannot be read; says who sets it and how it looks."""

    def __init__(self, variable: str, problem: str, example: str) -> None:
        super().__init__(
            f"{variable} {problem}. It is set by `./setup.sh run` and in gateway/.chalice/"
            f"config.json for a deployment; for example: {variable}={example}"
        )


@dataclass(frozen=True)
class Model:
    """A model on offer: the name visitors know and the SageMaker endpoint behind it."""

    name: str
    endpoint: str


@dataclass(frozen=True)
class Settings:
    """What the gateway was deployed with.

    Attributes:
        models: the models on offer by name; the first is the default.
        deadline_seconds: how long an answer may take. API Gateway gives up at 29 s, counted from
            before a cold start; what is left of that is for the start and for the way back.
        log_prompts: whether prompts may appear in the log.
    """

    models: Mapping[str, Model]
    deadline_seconds: float
    log_prompts: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read every variable at once.

        Raises:
            BadSetting: for the first variable that is missing or cannot be read.
        """
        read = _Reader(environment)
        return cls(
            models=read("EASEL_MODELS", _models, '{"sd": {"endpoint": "easel-sd"}}'),
            deadline_seconds=read("EASEL_DEADLINE_SECONDS", _deadline, "24", default="24"),
            log_prompts=read("EASEL_LOG_PROMPTS", _switch, "on", default="off"),
        )

    @property
    def default_model(self) -> str:
        return next(iter(self.models))


def route_prefix(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the path that API Gateway's stage adds on AWS, where nothing else adds it."""
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
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadSetting(variable, f"cannot be read ({error})", example) from error


def _models(text: str) -> dict[str, Model]:
    entries = json.loads(text)
    models = {name: _model(name, entry) for name, entry in entries.items()}
    if not models:
        raise ValueError("no model in it")
    return models


def _model(name: str, entry: dict[str, Any]) -> Model:
    Name("a model").clean(name)
    if set(entry) != {"endpoint"} or not isinstance(entry["endpoint"], str):
        raise ValueError(f"{name!r} needs an endpoint and nothing else")
    return Model(name, entry["endpoint"])


def _deadline(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 27:
        raise ValueError("from 1 to 27 seconds")
    return seconds


def _switch(text: str) -> bool:
    return {"on": True, "off": False}[text.lower()]
