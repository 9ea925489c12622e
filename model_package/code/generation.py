"""The contract: the fields of a request for an image, on both sides of the SageMaker endpoint.

The gateway builds a `GenerationRequest` from a URL, completes it and sends `to_dict()` to the
endpoint; the container reads that with `from_dict` and checks it again with the same code. An
instance is always valid: the constructor refuses invalid values.

This file uses the standard library only. It exists twice with the same bytes, because each side is
shipped alone: edit it in `model_package/code/` and copy it to `gateway/chalicelib/`.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

# Unicode's White_Space property. `str.split` would also take U+001C to U+001F, which are controls.
_WHITE_SPACE = re.compile("[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_DECIMAL = re.compile(
    r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][+-]?[0-9]{1,3})?"
)
# Normalising takes time quadratic in the length of a run of combining marks, so longer text is
# refused before it. It is not the limit itself, because white space collapses afterwards.
_LONGEST_RAW_TEXT = 10_000


class InvalidField(ValueError):
    """A field is missing, unknown or outside its limits.

    Attributes:
        field: the field's name, as the client spelled it (cut to 64 characters).
        reason: the expected values, without the field's name and without the client's value.
    """

    def __init__(self, field: str, reason: str) -> None:
        self.field = field[:64]
        self.reason = reason
        super().__init__(f"{self.field}: {reason}")


@dataclass(frozen=True)
class Rule:
    """The valid values of one field; `meaning` is its description for people."""

    meaning: str

    def clean(self, value: object) -> object:
        """Return `value` in its normal form, or raise ValueError with the expected values."""
        raise NotImplementedError

    def read(self, text: str) -> object:
        """Return the value from its text in a query string, before `clean`; raises ValueError."""
        return text

    def describe(self) -> dict[str, Any]:
        """Return the limits as JSON Schema (the dialect of OpenAPI 3.1)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Text(Rule):
    """Text in Unicode NFC; runs of white space become one space; lengths are in code points."""

    shortest: int
    longest: int

    def clean(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("must be text")
        if len(value) > _LONGEST_RAW_TEXT:
            raise ValueError(f"must be at most {self.longest:,} characters long")
        text = _WHITE_SPACE.sub(" ", unicodedata.normalize("NFC", value)).strip(" ")
        if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
            raise ValueError("must not contain control characters")
        if len(text) < self.shortest:
            raise ValueError("must not be empty")
        if len(text) > self.longest:
            raise ValueError(f"must be at most {self.longest:,} characters long")
        return text

    def describe(self) -> dict[str, Any]:
        return {"type": "string", "minLength": self.shortest, "maxLength": self.longest}


@dataclass(frozen=True)
class Whole(Rule):
    """A whole number from `least` to `most`, in steps of `step` from 0."""

    least: int
    most: int
    step: int = 1

    def clean(self, value: object) -> int:
        # JSON does not distinguish 20 and 20.0, and JavaScript may write either.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(self._expected())
        if not self.least <= value <= self.most or value % self.step:
            raise ValueError(self._expected())
        return value

    def read(self, text: str) -> float:
        # 20 and 20.0 are the same number here, too.
        if not _DECIMAL.fullmatch(text):
            raise ValueError(self._expected())
        return float(text)

    def describe(self) -> dict[str, Any]:
        schema = {"type": "integer", "minimum": self.least, "maximum": self.most}
        return schema if self.step == 1 else {**schema, "multipleOf": self.step}

    def _expected(self) -> str:
        if self.least == self.most:
            return f"must be {self.least:,}"
        kind = "whole number" if self.step == 1 else f"multiple of {self.step}"
        return f"must be a {kind} from {self.least:,} to {self.most:,}"


@dataclass(frozen=True)
class Number(Rule):
    """A finite number from `least` to `most`."""

    least: float
    most: float

    def clean(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(self._expected())
        # NaN compares false. Compare before converting: float() of a huge int overflows.
        if not self.least <= value <= self.most:
            raise ValueError(self._expected())
        return float(value) + 0.0  # -0.0 becomes 0.0, so that equal requests have equal JSON

    def read(self, text: str) -> float:
        if not _DECIMAL.fullmatch(text):
            raise ValueError(self._expected())
        return float(text)

    def describe(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.least, "maximum": self.most}

    def _expected(self) -> str:
        return f"must be a number from {self.least:g} to {self.most:g}"


@dataclass(frozen=True)
class Choice(Rule):
    """One of several words."""

    choices: tuple[str, ...]

    def clean(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}")
        return value

    def describe(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.choices)}


@dataclass(frozen=True)
class Name(Rule):
    """A short name of letters, digits, dots, hyphens and underscores."""

    _SPELLING: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

    def clean(self, value: object) -> str:
        if not isinstance(value, str) or not self._SPELLING.fullmatch(value):
            raise ValueError("must be a name of at most 63 letters, digits, '.', '_' and '-'")
        return value

    @classmethod
    def of(cls, text: str) -> str:
        """Return `text` if it is a name, else a name made of it and of its hash.

        The hash makes the result depend on `text` alone: "a b" and "a&b" get different names, and
        neither gets the name of "a-b".
        """
        if cls._SPELLING.fullmatch(text):
            return text
        # Some file systems store a letter with an accent as two characters.
        text = unicodedata.normalize("NFC", text)
        start = re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:56].strip("._-") or "lora"
        digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
        return f"{start}-{digest[:6]}"

    def describe(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{self._SPELLING.pattern}$"}


def adapter_files(paths: Iterable[str]) -> dict[str, str]:
    """Return which of the paths are adapters' files, by the names that requests use for them.

    Hidden files and folders do not count. Of two files with one name, the first has it: the one in
    fewer folders, the one with the usual ending, or the first by its path.

    Args:
        paths: below the place of a model's adapters, with slashes.
    """

    def order(path: str) -> tuple[int, bool, str]:
        return path.count("/"), not path.endswith(".safetensors"), path

    files: dict[str, str] = {}
    for path in sorted(paths, key=order):
        stem, dot, ending = path.rpartition("/")[2].rpartition(".")
        if dot + ending.lower() == ".safetensors" and not re.search(r"(?:^|/)\.", path):
            files.setdefault(Name.of(stem), path)
    return files


@dataclass(frozen=True)
class Weighted(Rule):
    """Names with weights, as `name:weight` separated by commas; the default weight is 1.

    The normal form is sorted by name and includes each weight, with at most four decimals.
    """

    most_names: int
    least: float
    most: float

    name: ClassVar[Name] = Name("")
    # The longest names and weights, with some white space between them.
    _LONGEST: ClassVar[int] = 400

    def clean(self, value: object) -> str:
        return ",".join(f"{name}:{weight:g}" for name, weight in self.pairs(value))

    def pairs(self, value: object) -> list[tuple[str, float]]:
        """Return names with their weights, sorted by name, or raise ValueError."""
        if not isinstance(value, str) or len(value) > self._LONGEST:
            raise ValueError(self._expected())
        if not value.strip():
            return []
        pairs = sorted(self._pair(item) for item in value.split(","))
        if len(pairs) > self.most_names:
            raise ValueError(self._expected())
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("must not have a name twice")
        return pairs

    def describe(self) -> dict[str, Any]:
        item = rf"{Name._SPELLING.pattern}(:-?[0-9.]+)?"
        pattern = rf"^({item}(, *{item}){{0,{self.most_names - 1}}})?$"
        example = ",".join(("watercolour:0.8", "pixel:0.5")[: self.most_names])
        return {"type": "string", "pattern": pattern, "examples": [example]}

    def _pair(self, item: str) -> tuple[str, float]:
        name, colon, weight = (part.strip() for part in item.partition(":"))
        number = Number("", self.least, self.most)
        try:
            value = number.clean(number.read(weight)) if colon else 1.0
            return self.name.clean(name), round(value, 4) + 0.0
        except ValueError as error:
            raise ValueError(self._expected()) from error

    def _expected(self) -> str:
        return (
            f"must be at most {self.most_names} of name:weight with commas between, "
            f"weights from {self.least:g} to {self.most:g}"
        )


_MODEL_DECIDES = "the model's own default"


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """A request for one image; frozen, always valid, equal to a request for the same image.

    A field that is None is unset and filled in later: the gateway chooses the seed, the model and
    the format, the container fills in its model's steps, guidance scale and size.

    Raises:
        InvalidField: by the constructor, for the first field outside its limits.
    """

    prompt: str = field(
        metadata={"rule": Text("What the picture shows.", shortest=1, longest=1_000)}
    )
    negative_prompt: str = field(
        default="",
        metadata={"rule": Text("What the picture should not show.", shortest=0, longest=1_000)},
    )
    seed: int | None = field(
        default=None,
        metadata={
            "rule": Whole("The picture's starting noise; the same seed repeats it.", 0, 2**32 - 1),
            "unset": "chosen at random",
        },
    )
    steps: int | None = field(
        default=None,
        metadata={
            "rule": Whole("Inference steps: more take longer and show more detail.", 1, 100),
            "unset": _MODEL_DECIDES,
        },
    )
    guidance_scale: float | None = field(
        default=None,
        metadata={
            "rule": Number("How closely the picture follows the prompt.", 0, 30),
            "unset": _MODEL_DECIDES,
        },
    )
    # The largest area, 1,536 x 1,536 pixels, follows from the two sides' limits.
    width: int | None = field(
        default=None,
        metadata={"rule": Whole("Width in pixels.", 64, 1_536, 8), "unset": _MODEL_DECIDES},
    )
    height: int | None = field(
        default=None,
        metadata={"rule": Whole("Height in pixels.", 64, 1_536, 8), "unset": _MODEL_DECIDES},
    )
    model: str | None = field(
        default=None,
        metadata={"rule": Name("Which model paints."), "unset": "the first model on offer"},
    )
    lora: str = field(
        default="",
        metadata={"rule": Weighted("LoRA adapters that change the model's style.", 4, -20, 20)},
    )
    format: str | None = field(
        default=None,
        # Unset, so that a model whose server writes no PNG can have another default.
        metadata={
            "rule": Choice("The file format of the picture.", ("png", "webp", "jpeg")),
            "default": "png",
        },
    )

    @property
    def file_format(self) -> str:
        """The format of the file: the one that is set, or else PNG."""
        return self.format or "png"

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _apply(name, rule.clean, value))

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> GenerationRequest:
        """Create a request from decoded JSON; null means unset.

        Raises:
            InvalidField: for an unknown field, a missing prompt, or a value outside its limits.
        """
        for name in data:
            if name not in RULES:
                raise InvalidField(str(name), f"is not a field; there are {', '.join(RULES)}")
        values: dict[str, Any] = {name: value for name, value in data.items() if value is not None}
        if "prompt" not in values:
            raise InvalidField("prompt", "is missing")
        return cls(**values)

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> GenerationRequest:
        """Create a request from the decoded parameters of a query string; empty means unset.

        Raises:
            InvalidField: as `from_dict`.
        """
        values: dict[str, object] = {}
        for name, text in query.items():
            if name not in RULES:
                values[name] = text  # refused by name in from_dict
            elif text or name == "prompt":
                values[name] = _apply(name, RULES[name].read, text)
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, for JSON; `from_dict` of it returns an equal request."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def complete(self, **defaults: object) -> GenerationRequest:
        """Return a copy whose unset fields have the values of `defaults`.

        Raises:
            InvalidField: if a default that is used is outside its field's limits.
        """
        changes: dict[str, Any] = {
            name: value for name, value in defaults.items() if getattr(self, name) is None
        }
        return replace(self, **changes)


RULES: dict[str, Rule] = {one.name: one.metadata["rule"] for one in fields(GenerationRequest)}


_SHORTEST_SIDE = 64  # the least width and height above
LARGEST_AREA = Whole("The largest area that a model is good for, in pixels.", 128**2, 1_536**2)
# How far a picture may be stretched to keep to whole steps: not visible.
_STRETCH = 0.02


def painted_size(width: int, height: int, largest_area: int | None) -> tuple[int, int]:
    """Return the width and height at which a model paints a picture that is scaled up to a size.

    The size itself, unless its area is too large; else nearly the same shape, with an area up to
    the largest. No side becomes shorter than 64 pixels, whatever the area.

    Args:
        width: of the picture, in pixels; a multiple of 8.
        height: likewise.
        largest_area: that the model is good for, in pixels, as LARGEST_AREA; None for any.
    """
    if largest_area is None or width * height <= largest_area:
        return width, height
    long, short = max(width, height), min(width, height)
    longest = long * max(math.sqrt(largest_area / (width * height)), _SHORTEST_SIDE / short)
    step = painted_step(largest_area)
    sizes = []
    for steps in range(int(longest + 1e-6) // step, int(longest * 0.7) // step, -1):
        other = max(round(steps * short / long) * step, _SHORTEST_SIDE)
        if steps * step * other <= largest_area or other == _SHORTEST_SIDE:
            sizes.append((steps * step, other))

    def stretch(size: tuple[int, int]) -> float:
        return abs(math.log(size[0] / size[1] * short / long))

    # The largest first.
    fitting = [size for size in sizes if stretch(size) <= _STRETCH]
    painted = fitting[0] if fitting else min(sizes, key=stretch)
    return painted if width >= height else painted[::-1]


def painted_step(largest_area: int) -> int:
    """Return the pixels of which a painted side is a multiple, where the picture is scaled up.

    Some pipelines need 16 or 32; for a small model these would be too few sizes.
    """
    return 8 if largest_area < 512 * 512 else 32


def describe() -> dict[str, Any]:
    """Return the contract as JSON Schema, the source of the page, OpenAPI document and README.

    `x-unset` says, for a field without a default, what happens when it is left out.
    """
    properties = {name: _describe_field(name) for name in RULES}
    return {
        "type": "object",
        "properties": properties,
        "required": ["prompt"],
        "additionalProperties": False,
    }


def _describe_field(name: str) -> dict[str, Any]:
    declared = GenerationRequest.__dataclass_fields__[name]
    schema = {"description": RULES[name].meaning, **RULES[name].describe()}
    if "unset" in declared.metadata:
        schema["x-unset"] = declared.metadata["unset"]
    elif isinstance(default := declared.metadata.get("default", declared.default), str):
        schema["default"] = default
    return schema


def _apply(name: str, step: Any, value: object) -> Any:
    """Run a step of a rule; its error names the field."""
    try:
        return step(value)
    except ValueError as error:
        raise InvalidField(name, str(error)) from error
