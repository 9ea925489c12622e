"""The models that Easel knows, from `catalogue.json`, and any other diffusers model.

Adding a model is adding an entry there. The tests hold every entry to the form below.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("catalogue.json")
# A SageMaker name is `easel-<deployment>-<model>-<8 digits of a hash>`, 63 characters at most, of
# which a deployment may take 20.
LONGEST_NAME = 27
_NAME = re.compile(rf"[a-z0-9](-?[a-z0-9]){{0,{LONGEST_NAME - 1}}}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# What an unlisted model is tried on: a 24 GB GPU, cheapest first.
_UNLISTED_TYPES = ("ml.g6.xlarge", "ml.g5.xlarge", "ml.g6e.xlarge")


class UnknownModel(ValueError):
    """There is no such model; the message lists what there is."""


@dataclass(frozen=True)
class Repository:
    """A repository of the Hugging Face hub, at a commit (or a branch, where nobody pinned it)."""

    name: str
    revision: str


@dataclass(frozen=True)
class Model:
    """A text-to-image model and how it is best served.

    Attributes:
        name: what a request calls it, and a part of its endpoint's name.
        title: what a person calls it.
        source: the repository it is fetched from; None for a folder of the user's own.
        refiner: a second repository whose model finishes the pictures.
        folder: the diffusers folder on this machine, in the repository's place.
        licence: under which its weights may be used, in words.
        gated: whether the hub hands it out only to accounts that accepted its terms; None where
            that is not known.
        dtype: the numbers to compute in: auto, fp16, bf16 or fp32.
        variant: the infix of its 16-bit weight files' names, if it has such.
        defaults: steps, guidance_scale, and width and height in pixels where a request names none.
        seconds: how long a picture with those takes on the first of the instance types, once the
            model is awake, by a measurement; None where nobody has made one.
        asynchronous: whether its pictures take longer than API Gateway waits.
        instance_types: what serves it, the best buy first.
    """

    name: str
    title: str
    source: Repository | None
    defaults: dict[str, Any]
    refiner: Repository | None = None
    folder: Path | None = None
    licence: str = "unknown: read its model card"
    gated: bool | None = None
    dtype: str = "auto"
    variant: str | None = "fp16"
    seconds: float | None = None
    asynchronous: bool = False
    instance_types: tuple[str, ...] = _UNLISTED_TYPES

    @property
    def repository(self) -> str:
        """The repository's name, or the folder's for a model that comes from one."""
        return self.source.name if self.source else str(self.folder)


def read() -> dict[str, Model]:
    """Return the catalogue's models by name, the default one first."""
    entries = json.loads(_FILE.read_text("utf-8"))
    return {name: _model(name, entry) for name, entry in entries.items()}


def _model(name: str, entry: dict[str, Any]) -> Model:
    given = dict(entry)
    source = Repository(given.pop("repository"), given.pop("revision"))
    refiner = given.pop("refiner", None)
    return Model(
        name=name,
        source=source,
        refiner=Repository(refiner["repository"], refiner["revision"]) if refiner else None,
        instance_types=tuple(given.pop("instance_types")),
        **given,
    )


def find(name_or_repository: str) -> Model | None:
    """Return the model with that name or in that repository."""
    for model in read().values():
        if name_or_repository in (model.name, model.repository):
            return model
    return None


def resolve(text: str, revision: str | None = None) -> Model:
    """Return the model that a person names.

    Args:
        text: a name of the catalogue, a folder on this machine, or `org/name` on the hub.
        revision: the branch, tag or commit of a hub repository, in place of the pinned one.

    Raises:
        UnknownModel: if it is none of these.
    """
    listed = find(text)
    if listed and (revision is None or (listed.source and listed.source.revision == revision)):
        return listed
    folder = Path(text).expanduser()
    if not listed and (folder / "model_index.json").is_file():
        return Model(as_name(folder.resolve().name), text, None, {}, folder=folder.resolve())
    if not listed and not _REPOSITORY.fullmatch(text):
        raise UnknownModel(_unknown(text))
    name = listed.repository if listed else text
    return Model(as_name(name.rpartition("/")[2]), name, Repository(name, revision or "main"), {})


def _unknown(text: str) -> str:
    return (
        f"there is no model {text!r}. The catalogue has {', '.join(read())}; any `org/name` of the"
        " Hugging Face hub will do as well, or a folder with a model_index.json in it"
    )


def as_name(text: str) -> str:
    """Return the nearest resource to `text` that can be a model's name.

    Lower-case letters, digits and single hyphens stay; at most 27 characters.
    """
    kept = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST_NAME].strip("-")
    return kept if is_name(kept) else "model"


def is_name(text: str) -> bool:
    """Whether `text` can be a model's name."""
    return bool(_NAME.fullmatch(text))
