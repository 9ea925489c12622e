"""The models of `catalogue.json`, and any other diffusers model.

To add a model, add an entry to that file; the tests check every entry.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from endpoint.catalogue import memory, prices
from endpoint.catalogue.memory import Component, Estimate
from endpoint.core.model_folder.check import check, single_file
from endpoint.core.model_folder.files import FolderUnusable, contains_model
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


# A picture of a model that does not say its own size.
_SIDE = 1024
NONE = "none"


@dataclass(frozen=True)
class Repository:
    """A repository of the Hugging Face hub.

    Attributes:
        name: its owner's name and its own.
        revision: a commit, tag or branch; None where the catalogue could not pin it. `create` then
            asks the hub for the commit, and keeps it for this deployment.
        file: the file in it, or the folder, where not all of it is meant.
        recorded: whether the commit is one that `create` asked for.
    """

    name: str
    revision: str | None
    file: str = ""
    recorded: bool = False

    @property
    def ref(self) -> str:
        """What the hub calls it: the revision, or the default branch."""
        return self.revision or "main"


@dataclass(frozen=True)
class Model:
    """A text-to-image model and the settings to serve it with.

    Attributes:
        name: the name in requests, and a part of the endpoint's name.
        title: the name in messages.
        source: the repository with its weights; None for a local folder.
        refiner: a second repository, whose model runs the last steps of every request.
        folder: the local diffusers folder, where there is no repository.
        lora: an adapter that is merged into the weights when the model loads.
        licence: the licence of its weights, in words.
        duties: what the licence requires of those who use the model or its pictures; one or two
            sentences, which are no legal advice.
        gated: whether the hub requires an account that accepted its terms; None if unknown.
        dtype: the number format to compute in: auto, fp16, bf16 or fp32.
        variant: the infix in the names of its 16-bit weight files, if it has such files.
        sampler: the name of a scheduler for EASEL_SAMPLER; `own` for the model's.
        wide_vae: whether its VAE overflows in fp16 and so computes in 32 bits without bf16.
        components: the parts of its pipeline with their parameters; empty if unknown.
        quantise: how its weights are stored: none, or a name of `memory.QUANTISED`.
        quantised: the repositories with quantised denoisers, by the name of the quantisation.
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
    lora: Repository | None = None
    licence: str = "unknown: read its model card"
    duties: str = ""
    gated: bool | None = None
    dtype: str = "auto"
    variant: str | None = "fp16"
    sampler: str = "own"
    wide_vae: bool = False
    components: tuple[Component, ...] = ()
    quantise: str = NONE
    quantised: Mapping[str, Repository] = field(default_factory=dict)
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
    def denoiser(self) -> Repository | None:
        """The repository with the denoiser as it is quantised, if another one has it."""
        return self.quantised.get(self.quantise)

    @property
    def repositories(self) -> dict[str, Repository]:
        """The hub's repositories that its container reads, by the beginning of their variables."""
        listed = {
            "EASEL_MODEL": self.source,
            "EASEL_REFINER": self.refiner,
            "EASEL_MERGED_LORA": self.lora,
            "EASEL_QUANTISED": self.denoiser,
        }
        return {name: repository for name, repository in listed.items() if repository}

    @property
    def settings(self) -> dict[str, str]:
        """The variables of its container that select how it computes, where they differ."""
        own = {"EASEL_SAMPLER": ("own", self.sampler), "EASEL_QUANTISE": (NONE, self.quantise)}
        return {name: value for name, (usual, value) in own.items() if value != usual}

    def memory(self, instance: prices.InstanceType, quantise: str | None = None) -> Estimate | None:
        """Return the memory for one picture of its default size; None if it is not known.

        Args:
            instance: where it would run; a GPU without bfloat16 computes some VAEs in 32 bits.
            quantise: instead of its own.
        """
        if not self.components:
            return None
        return memory.estimate(
            self.components,
            dtype=self.dtype,
            quantise=quantise or self.quantise,
            width=self.defaults.get("width", _SIDE),
            height=self.defaults.get("height", _SIDE),
            wide_vae=self.wide_vae and not instance.bf16,
        )

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
    parameters, embeddings = fields.pop("parameters"), fields.pop("embeddings", {})
    return Model(
        name=name,
        source=source,
        refiner=_repository(fields.pop("refiner", None)),
        lora=_repository(fields.pop("lora", None)),
        components=memory.of_entry(parameters, embeddings),
        quantised={
            kind: Repository(at["repository"], at["revision"], at["file"])
            for kind, at in fields.pop("quantised", {}).items()
        },
        instance_types=tuple(fields.pop("instance_types")),
        backends=tuple(fields.pop("backends", ())),
        **fields,
    )


def _repository(entry: dict[str, Any] | None) -> Repository | None:
    if entry is None:
        return None
    return Repository(entry["repository"], entry["revision"], entry.get("file", ""))


def find(name_or_repository: str) -> Model | None:
    """Return the catalogue's model with this name or in this repository, if there is one."""
    for model in read().values():
        if name_or_repository in (model.name, model.repository):
            return model
    return None


def resolve(text: str | None, revision: str | None = None, quantise: str | None = None) -> Model:
    """Return the model that `--model` names.

    Args:
        text: a name in the catalogue, a local folder, or `org/name` on the hub; None for the
            catalogue's first model.
        revision: the branch, tag or commit of a hub repository, instead of the pinned commit.
        quantise: how to store its weights; None for the model's own way.

    Raises:
        BadArgument: if it is none of these.
    """
    model = _resolve(next(iter(read())) if text is None else text, revision)
    return model if quantise is None else replace(model, quantise=quantise)


def _resolve(text: str, revision: str | None) -> Model:
    listed = find(text)
    if listed and (revision is None or (listed.source and listed.source.revision == revision)):
        return listed
    if listed and listed.source and listed.source.revision is None:
        return replace(listed, source=replace(listed.source, revision=revision))
    folder = Path(text).expanduser()
    if not listed and text and (folder.is_dir() or folder.is_file()):
        _require_model(folder)
        return Model(
            as_name(folder.resolve().name),
            text,
            None,
            {},
            folder=folder.resolve(),
            components=_components(folder),
            quantise=memory.quantised_in(folder),
        )
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


def _components(folder: Path) -> tuple[Component, ...]:
    """Return what the files of a folder have; nothing if they are faulty, which `doctor` finds."""
    try:
        return memory.of_folder(folder)
    except (FolderUnusable, OSError, ValueError, KeyError, struct.error):
        return ()


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
