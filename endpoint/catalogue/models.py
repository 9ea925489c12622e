"""The models of `catalogue.json`, and any other diffusers model.

To add a model, add an entry to that file; the tests check every entry.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endpoint.core.model_folder.check import check, single_file
from endpoint.core.model_folder.files import contains_model
from endpoint.core.problems import BadArgument

_FILE = Path(__file__).with_name("catalogue.json")
# A SageMaker name is `easel-<deployment>-<model>-<8 digits of a hash>`, at most 63 characters, of
# which a deployment's name can take 20.
LONGEST_NAME = 27
_NAME = re.compile(rf"[a-z0-9](-?[a-z0-9]){{0,{LONGEST_NAME - 1}}}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# The types tried for a model outside the catalogue: 24 GB of GPU memory hold most of them. The
# cheapest is first.
_UNLISTED_TYPES = ("ml.g6.xlarge", "ml.g5.xlarge", "ml.g6e.xlarge")


@dataclass(frozen=True)
class Repository:
    """A repository of the Hugging Face hub at a commit, or at a branch if it is not pinned."""

    name: str
    revision: str


@dataclass(frozen=True)
class Model:
    """A text-to-image model and the settings to serve it with.

    Attributes:
        name: the name in requests, and a part of the endpoint's name.
        title: the name in messages.
        source: the repository with its weights; None for a local folder.
        refiner: a second repository, whose model runs the last steps of every request.
        folder: the local diffusers folder, where there is no repository.
        licence: the licence of its weights, in words.
        gated: whether the hub requires an account that accepted its terms; None if unknown.
        dtype: the number format to compute in: auto, fp16, bf16 or fp32.
        variant: the infix in the names of its 16-bit weight files, if it has such files.
        defaults: steps, guidance_scale, width and height (pixels) for requests that leave them
            out.
        seconds: the measured duration of a request with the defaults on the first instance type,
            once the model is loaded; None if it has not been measured.
        asynchronous: whether a request takes longer than API Gateway waits.
        instance_types: the types to serve it on, in order of preference.
        backend: what answers in its container, a name in `core/backends`.
        backends: others that are known to serve it.
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
    backend: str = "easel"
    backends: tuple[str, ...] = ()

    @property
    def weights(self) -> str:
        """Where its container gets the weights: fetch (from the hub) or s3.

        An asynchronous endpoint starts from zero instances again and again. The hub limits
        downloads without a token by address, and many share those of AWS.
        """
        return "s3" if self.asynchronous else "fetch"

    @property
    def repository(self) -> str:
        """The repository's name, or the folder's path where there is no repository."""
        return self.source.name if self.source else str(self.folder)


def read() -> dict[str, Model]:
    """Return the catalogue's models by name, the default model first."""
    entries = json.loads(_FILE.read_text("utf-8"))
    return {name: _model(name, entry) for name, entry in entries.items()}


def _model(name: str, entry: dict[str, Any]) -> Model:
    fields = dict(entry)
    source = Repository(fields.pop("repository"), fields.pop("revision"))
    refiner = fields.pop("refiner", None)
    return Model(
        name=name,
        source=source,
        refiner=Repository(refiner["repository"], refiner["revision"]) if refiner else None,
        instance_types=tuple(fields.pop("instance_types")),
        backends=tuple(fields.pop("backends", ())),
        **fields,
    )


def find(name_or_repository: str) -> Model | None:
    """Return the catalogue's model with this name or in this repository, if there is one."""
    for model in read().values():
        if name_or_repository in (model.name, model.repository):
            return model
    return None


def resolve(text: str | None, revision: str | None = None) -> Model:
    """Return the model that `--model` names.

    Args:
        text: a name in the catalogue, a local folder, or `org/name` on the hub; None for the
            catalogue's first model.
        revision: the branch, tag or commit of a hub repository, instead of the pinned commit.

    Raises:
        BadArgument: if it is none of these.
    """
    text = next(iter(read())) if text is None else text
    listed = find(text)
    if listed and (revision is None or (listed.source and listed.source.revision == revision)):
        return listed
    folder = Path(text).expanduser()
    if not listed and text and (folder.is_dir() or folder.is_file()):
        _require_model(folder)
        return Model(as_name(folder.resolve().name), text, None, {}, folder=folder.resolve())
    if not listed and not _REPOSITORY.fullmatch(text):
        raise BadArgument(_unknown(text))
    # Another revision of a listed model can have other weights: none of the catalogue's settings
    # apply to it, and its name must not be the listed model's.
    name = listed.repository if listed else text
    return Model(as_name(name.rpartition("/")[2]), name, Repository(name, revision or "main"), {})


def _require_model(path: Path) -> None:
    """Refuse a file, and a folder without a pipeline; other faults are found by `doctor`."""
    if path.is_file():
        fault = single_file(path)
        raise BadArgument(f"{fault}.")
    if not contains_model(path):
        raise BadArgument(" ".join(f"{fault}." for fault in check(path) if fault.fatal))


def _unknown(text: str) -> str:
    return (
        f"there is no model {text!r}: pass a name in the catalogue ({', '.join(read())}), an"
        " `org/name` of the Hugging Face hub, or a folder that contains a model_index.json"
    )


def as_name(text: str) -> str:
    """Return the valid model name that is closest to `text`.

    It keeps lower-case letters, digits and single hyphens; at most 27 characters.
    """
    kept = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST_NAME].strip("-")
    return kept if is_name(kept) else "model"


def is_name(text: str) -> bool:
    """Whether `text` is a valid model name."""
    return bool(_NAME.fullmatch(text))
