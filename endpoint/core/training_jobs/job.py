"""What to train and how: `job.json`, the trainer's only input besides pictures and the model.

Text from people is in this file and nowhere else: not in hyperparameters, which some training
images pass through a shell, nor in environment variables, paths or names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .fields import Choice, InvalidField, Name, Number, Rule, Text, Whole

_LARGEST_FILE = 1_000_000  # bytes; a job with the longest texts has about 20 kB


@dataclass(frozen=True)
class Flag(Rule):
    """True or false."""

    def clean(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value

    def describe(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Texts(Rule):
    """A list of texts that are not empty."""

    most: int
    longest: int

    def clean(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or len(value) > self.most:
            raise ValueError(f"must be a list of at most {self.most} texts")
        text = Text("", 1, self.longest)
        try:
            return tuple(text.clean(item) for item in value)
        except ValueError as error:
            raise ValueError(f"each of its texts {error}") from error

    def describe(self) -> dict[str, Any]:
        item = Text("", 1, self.longest).describe()
        return {"type": "array", "maxItems": self.most, "items": item}


# What a set of pictures can have of its own.
OF_SETS = ("repeats", "instance_prompt", "trigger", "caption_dropout", "shuffle_tags", "keep_tags",
           "flip")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """The pictures in one folder. None means as the job has it.

    Attributes:
        folder: its path below the pictures.
        of_class: whether they are pictures of the class.
    """

    folder: str
    of_class: bool = False
    repeats: int | None = None
    instance_prompt: str | None = None
    trigger: str | None = None
    caption_dropout: float | None = None
    shuffle_tags: bool | None = None
    keep_tags: int | None = None
    flip: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Sets(Rule):
    """A list of sets of pictures, each an object with `folder`."""

    most: int

    def clean(self, value: object) -> tuple[PictureSet, ...]:
        if not isinstance(value, list | tuple) or len(value) > self.most:
            raise ValueError(f"must be a list of at most {self.most} objects with folder")
        sets = tuple(self._set(item) for item in value)
        if len({one.folder for one in sets}) < len(sets):
            raise ValueError("must name each folder once")
        return sets

    def _set(self, item: object) -> PictureSet:
        if isinstance(item, PictureSet):
            return item
        if not isinstance(item, Mapping) or "folder" not in item:
            raise ValueError("must have objects with folder")
        values: dict[str, Any] = {}
        for name, value in item.items():
            if name not in self._rules():
                raise ValueError(f"of a set have no {str(name)[:40]}")
            if value is not None:
                try:
                    values[str(name)] = self._rules()[name].clean(value)
                except ValueError as error:
                    raise ValueError(f"have a {name} that {error}") from error
        values["folder"] = values["folder"].strip("/")
        if not values["folder"]:
            raise ValueError("have a folder that must not be empty")
        return PictureSet(**values)

    @staticmethod
    def _rules() -> dict[str, Rule]:
        return {
            "folder": Text("Its path below the pictures.", 1, 200),
            "of_class": Flag("Whether they are pictures of the class."),
            **{name: RULES[name] for name in OF_SETS},
        }

    def describe(self) -> dict[str, Any]:
        properties = {
            name: {"description": rule.meaning, **rule.describe()}
            for name, rule in self._rules().items()
        }
        item = {"type": "object", "properties": properties, "required": ["folder"],
                "additionalProperties": False}  # fmt: skip
        return {"type": "array", "maxItems": self.most, "items": item}


def _set(rule: Rule, default: Any, unset: str = "") -> Any:
    return field(default=default, metadata={"rule": rule, **({"unset": unset} if unset else {})})


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training job; frozen and always valid. None means that the trainer chooses.

    Raises:
        InvalidField: by the constructor, for the first field outside its limits.
    """

    version: int = _set(Whole("The version of this format.", 1, 1), 1)
    name: str = field(metadata={"rule": Name("The name of the adapter and of its file.")})

    # Captions
    instance_prompt: str = _set(Text("The caption of pictures without their own.", 0, 1_000), "")
    trigger: str = _set(Text("Words put before each caption that lacks them.", 0, 100), "")
    captions: str = _set(
        Choice("Captions from files next to the pictures, or from file names.", ("files", "names")),
        "files",
    )
    caption_dropout: float = _set(Number("Share of steps without a caption.", 0, 1), 0.05)
    shuffle_tags: bool = _set(Flag("Whether to shuffle a caption's parts between commas."), False)
    keep_tags: int = _set(Whole("How many parts stay at the start of a caption.", 0, 50), 0)

    # Pictures
    resolution: int | None = _set(
        Whole("Side of the square whose area all pictures have, in pixels.", 64, 1_536, 8),
        None,
        "the model's own",
    )
    buckets: bool = _set(Flag("Whether pictures keep about their shape; else squares."), True)
    upscale: bool = _set(Flag("Whether smaller pictures are enlarged."), True)
    repeats: int = _set(Whole("How often an epoch has each picture.", 1, 1_000), 1)
    flip: bool = _set(Flag("Whether half of the pictures are mirrored."), False)

    sets: tuple[PictureSet, ...] = _set(
        Sets(
            "Folders of pictures with settings of their own; what they leave out is the job's.", 20
        ),
        (),
    )

    # Keeping the rest of the model's knowledge
    preserve: str = _set(
        Choice(
            "How the class of the subject is preserved: with pictures of the class, with the "
            "model's own output for class_prompt, or not.",
            ("none", "output", "pictures"),
        ),
        "none",
    )
    class_prompt: str = _set(Text("The caption of the class: a dog.", 0, 1_000), "")
    preserve_weight: float = _set(Number("Weight of the preservation in the loss.", 0, 10), 1.0)

    # The adapter
    rank: int = _set(Whole("Rank of the adapter.", 1, 256), 16)
    alpha: float | None = _set(
        Number("The adapter's scale is alpha / rank.", 0.01, 1_024), None, "the rank"
    )
    conv: bool = _set(Flag("Whether convolutions are trained as well."), False)
    conv_rank: int | None = _set(
        Whole("Rank of the convolutions of 3 x 3.", 1, 256), None, "the rank"
    )
    conv_alpha: float | None = _set(
        Number("Their scale is conv_alpha / conv_rank.", 0.01, 1_024),
        None,
        "the scale of other layers",
    )

    # Steps
    steps: int | None = _set(
        Whole("Steps of the optimizer.", 1, 20_000),
        None,
        "100 for each picture, from 400 to 2,000",
    )
    batch_size: int = _set(Whole("Pictures computed together.", 1, 64), 1)
    accumulation: int = _set(Whole("Batches for each step.", 1, 64), 1)
    optimizer: str = _set(
        Choice(
            "The optimizer; prodigy finds the learning rate itself, and needs the package"
            " prodigyopt next to the trainer.",
            ("adamw", "adafactor", "prodigy"),
        ),
        "adamw",
    )
    rate: float | None = _set(
        Number("Learning rate; with prodigy, a factor of the one that it finds.", 0, 1),
        None,
        "0.0001, and 1 with prodigy",
    )
    text_encoder_rate: float = _set(Number("That of text encoders; 0: not trained.", 0, 1), 0.0)
    schedule: str = _set(
        Choice("How the rate falls after the warm-up.", ("cosine", "linear", "constant")), "cosine"
    )
    warm_up: float = _set(Number("Share of steps in which the rate rises.", 0, 0.9), 0.05)
    weight_decay: float = _set(Number("Weight decay.", 0, 1), 0.01)
    min_snr: float = _set(Number("Gamma of min-SNR weighting; 0: none.", 0, 100), 5.0)
    noise_offset: float = _set(Number("Noise offset.", 0, 1), 0.0)
    seed: int = _set(Whole("All random numbers follow from it.", 0, 2**32 - 1), 0)
    precision: str = _set(
        Choice("The number type of the model.", ("auto", "bf16", "fp16", "fp32")), "auto"
    )
    gradient_checkpointing: bool | None = _set(
        Flag("Whether to compute activations twice, in less memory."),
        None,
        "only where the memory is too small",
    )

    # Watching
    checkpoint_seconds: float = _set(Number("Seconds between checkpoints.", 0, 3_600), 90.0)
    held_out: float | None = _set(
        Number("Share of the pictures that only the validation loss sees.", 0, 0.5),
        None,
        "0.1 with 20 pictures or more, else 0",
    )
    validate_every: int = _set(Whole("Steps between validation losses.", 1, 20_000), 50)
    sample_prompts: tuple[str, ...] = _set(Texts("Prompts of the sample sheets.", 8, 1_000), ())
    sample_every: int = _set(Whole("Steps between sample sheets.", 1, 20_000), 200)
    usd_per_hour: float = _set(Number("Price of the instance, for the log.", 0, 1_000), 0.0)

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            value = getattr(self, name)
            if value is not None or not _may_be_unset(name):
                try:
                    object.__setattr__(self, name, rule.clean(value))
                except ValueError as error:
                    raise InvalidField(name, str(error)) from error
        self._check_together()

    def _check_together(self) -> None:
        """Set the rate, and raise InvalidField for fields that contradict each other."""
        if self.preserve == "output" and not self.class_prompt:
            raise InvalidField("class_prompt", "is required with preserve output")
        if self.rate is None:
            object.__setattr__(self, "rate", 1.0 if self.optimizer == "prodigy" else 1e-4)
        if self.rate == 0 and self.text_encoder_rate == 0:
            raise InvalidField("rate", "must be larger than 0")
        if self.optimizer == "prodigy" and self.text_encoder_rate not in (0, self.rate):
            raise InvalidField("text_encoder_rate", "must be 0 or the rate with prodigy")
        if not self.conv and (self.conv_rank or self.conv_alpha):
            raise InvalidField("conv", "must be true with conv_rank or conv_alpha")
        if self.preserve != "pictures" and any(one.of_class for one in self.sets):
            raise InvalidField("preserve", "must be pictures if a set is of the class")

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Job:
        """Create a job from decoded JSON; null means unset.

        Raises:
            InvalidField: for an unknown field, a missing name, or a value outside its limits.
        """
        for name in data:
            if name not in RULES:
                raise InvalidField(str(name), f"is not a field; there are {', '.join(RULES)}")
        values: dict[str, Any] = {name: value for name, value in data.items() if value is not None}
        if "name" not in values:
            raise InvalidField("name", "is missing")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, for JSON; `from_dict` of it returns an equal job."""
        data = {name: value for name, value in asdict(self).items() if value is not None}
        sets = [one.to_dict() for one in self.sets]
        return {**data, "sample_prompts": list(self.sample_prompts), "sets": sets}


def read_fields(path: Path) -> dict[str, Any]:
    """Return the fields in a job's file, before they are checked.

    Raises:
        InvalidField: for a file that is not a JSON object.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        data = json.loads(content) if len(content) <= _LARGEST_FILE else None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidField(path.name, "cannot be read as JSON") from error
    if not isinstance(data, dict):
        raise InvalidField(path.name, "must be a JSON object of at most 1 MB")
    return data


RULES: dict[str, Rule] = {one.name: one.metadata["rule"] for one in fields(Job)}


def _may_be_unset(name: str) -> bool:
    return "unset" in Job.__dataclass_fields__[name].metadata


def describe() -> dict[str, Any]:
    """Return the format as JSON Schema; `x-unset` says what happens without the field."""
    properties = {}
    for one in fields(Job):
        schema = {"description": RULES[one.name].meaning, **RULES[one.name].describe()}
        if "unset" in one.metadata:
            schema["x-unset"] = one.metadata["unset"]
        elif one.name != "name":
            default: Any = one.default
            schema["default"] = list(default) if isinstance(default, tuple) else default
        properties[one.name] = schema
    return {
        "type": "object",
        "properties": properties,
        "required": ["name"],
        "additionalProperties": False,
    }
