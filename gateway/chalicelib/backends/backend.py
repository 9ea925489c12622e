"""What every backend has: its abilities, a request in its own words, and its answers read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from .fields import RULES, GenerationRequest, InvalidField, Rule

# The contract's fields, and the words of diffusers for them, which all other wires have as well.
WORDS = {
    "negative_prompt": "negative_prompt",
    "seed": "seed",
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "width": "width",
    "height": "height",
}
MEDIA_TYPES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
# Every backend has these in some form.
_ALWAYS = {"prompt", "model", "format"}
_SIDES = {"width", "height"}
# The fields of which a backend may lack some, in the contract's order.
OPTIONAL = tuple(name for name in RULES if name not in _ALWAYS)
# SageMaker accepts so many characters of CustomAttributes:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
_LONGEST_ATTRIBUTES = 1_024
# What follows for the model, and what the backend does not take.
_CONSEQUENCES = {
    "negative_prompt": ("does not know what a picture should not show", "negative prompt"),
    "seed": ("cannot repeat a picture", "seed"),
    "steps": ("decides its own inference steps", "number of steps"),
    "guidance_scale": ("decides its own guidance scale", "guidance scale"),
    "width": ("decides its own size", "width"),
    "height": ("decides its own size", "height"),
    "lora": ("has no LoRA adapters", "LoRA adapter"),
}


class BadAnswer(ValueError):
    """The answer of a backend has no picture in it; the message says what it had instead."""


@dataclass(frozen=True)
class Abilities:
    """What a backend can carry out.

    Attributes:
        fields: of the contract, those of `OPTIONAL` that it takes.
        formats: in which it answers; the first is its own default.
        rules: of the fields whose limits are narrower than the contract's.
        required: fields of which a model behind it must have a default.
        raw: whether the answer is the picture itself: only then can it be asynchronous, because
            SageMaker stores an answer as it is.
        compressed: whether its PNG files are.
    """

    fields: frozenset[str]
    formats: tuple[str, ...] = tuple(MEDIA_TYPES)
    rules: Mapping[str, Rule] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    raw: bool = True
    compressed: bool = True


@dataclass(frozen=True)
class Invocation:
    """What is sent to SageMaker; the content type is always application/json.

    Attributes:
        body: JSON.
        accept: the media type that is asked for.
        attributes: of the header CustomAttributes, at most 1,024 visible characters and blanks.
    """

    body: bytes
    accept: str
    attributes: str


class Backend(ABC):
    """A backend as it is configured for one model.

    Attributes:
        name: as settings and scripts name it.
        title: for people, in the middle of a sentence.
        options: what the setting may have besides the name.
        adapters: the paths of LoRA adapters in the container, by the names that requests use, where
            the gateway has to know them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    adapters: Mapping[str, str] = MappingProxyType({})

    @property
    @abstractmethod
    def abilities(self) -> Abilities:
        """What it can carry out."""

    @property
    def setting(self) -> str | dict[str, Any]:
        """What `setting.read` reads it from: its name, or an object if it has options."""
        return self.name

    @property
    def missing(self) -> tuple[str, ...]:
        """The fields that it cannot carry out, in the contract's order."""
        return tuple(name for name in OPTIONAL if name not in self.abilities.fields)

    @property
    def repeats(self) -> bool:
        """Whether the same request leads to the same picture."""
        return "seed" in self.abilities.fields

    def check(self, request: GenerationRequest) -> None:
        """Raise InvalidField for the first field of a request that it cannot carry out.

        A field with its neutral value, such as an empty negative prompt, is none.
        """
        for name in self.missing:
            if getattr(request, name) not in (None, ""):
                consequence, noun = _CONSEQUENCES[name]
                raise InvalidField(
                    name,
                    f"the model {request.model} {consequence}: its backend, {self.title}, takes no"
                    f" {noun}",
                )
        if request.format and request.format not in self.abilities.formats:
            formats = ", ".join(self.abilities.formats)
            reason = f"must be one of {formats} for the model {request.model}"
            raise InvalidField("format", f"{reason}: its backend is {self.title}")
        for name, rule in self.abilities.rules.items():
            value = getattr(request, name)
            try:
                if value not in (None, ""):
                    rule.clean(value)
            except ValueError as error:
                raise InvalidField(name, f"{error} for the model {request.model}") from error

    def complete(
        self, request: GenerationRequest, defaults: Mapping[str, object]
    ) -> GenerationRequest:
        """Return the request with the model's defaults, which its container does not know.

        The pipeline of such a container has defaults of its own, such as 50 steps, which are wrong
        for many a model.

        Args:
            request: has passed `check`.
            defaults: the model's own steps, guidance scale, width and height, as far as known.

        Raises:
            InvalidField: if something is needed of which there is no default.
        """
        values = {name: defaults[name] for name in self.abilities.fields & defaults.keys()}
        if not values.keys() >= _SIDES:
            # One side alone is no size.
            values = {name: value for name, value in values.items() if name not in _SIDES}
        request = request.complete(**values, format=self.abilities.formats[0])
        for name in sorted(self.abilities.required):
            if getattr(request, name) is None:
                raise InvalidField(name, f"is needed, because {self.title} has another default")
        return request

    @abstractmethod
    def invocation(self, request: GenerationRequest, trace: str) -> Invocation:
        """Return what is sent for a request.

        Args:
            request: made by `complete`.
            trace: text for the container's log, visible characters.
        """

    @abstractmethod
    def picture(self, body: bytes, media_type: str) -> bytes:
        """Return the picture in an answer.

        Args:
            body: of the answer.
            media_type: its Content-Type; empty if that is not known.

        Raises:
            BadAnswer: if there is none.
        """

    @abstractmethod
    def report(self, status: int | None, text: str) -> dict[str, Any]:
        """Return what an answer says about an error, in the words of Easel's own container.

        Args:
            status: of the container's answer; None if it is not known.
            text: the body of the answer, or a longer text that quotes it.

        Returns:
            An empty object, or `code` with `message`, `field` and `retry_after` as far as they
            are known. The codes are those of docs/container.md; `invalid_request` means that the
            same request would be refused again.
        """


def words(request: GenerationRequest, names: Iterable[str]) -> dict[str, Any]:
    """Return those of the named fields that a request sets, with the words of diffusers."""
    values = {WORDS[name]: getattr(request, name) for name in names}
    return {word: value for word, value in values.items() if value not in (None, "")}


def attributes(*parts: str) -> str:
    """Return the text of CustomAttributes, cut to the length that SageMaker accepts."""
    return " ".join(part for part in parts if part)[:_LONGEST_ATTRIBUTES]
