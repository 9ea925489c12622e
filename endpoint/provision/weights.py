"""Select the weight files of a diffusers model, in a folder or on the Hugging Face hub.

A repository usually contains a model in several formats. Only the components in `model_index.json`
are selected: their configurations, their tokenizers, and their safetensors, in 16 bits where such
files exist.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from endpoint.catalogue.models import Model, Repository
from endpoint.core.console import Console
from endpoint.core.problems import AGAIN, BadArgument, UploadFailed
from endpoint.provision.payload import File

INDEX = "model_index.json"
# Configurations, vocabularies, sentencepiece models and chat templates.
_TEXTS = {".json", ".txt", ".model", ".jinja"}
_SAFE = ".safetensors"
# The refiner shares these components with its base, which passes them on.
_SHARED = ("text_encoder_2", "tokenizer_2", "vae")


def gather(model: Model, console: Console) -> list[File]:
    """Return a model's local files; download them from the hub first if necessary.

    The hub's token (HF_TOKEN, or that of `hf auth login`) is used on this machine only.

    Raises:
        BadArgument: if there are no safetensors, or the hub refuses.
        UploadFailed: if the disk is full.
    """
    try:
        files = _files(_folder(model, console), model.variant)
        if model.refiner:
            folder = _fetch(model.refiner, model.variant, console, _SHARED)
            files += [
                File(file.path, f"refiner/{file.place}", file.size, file.sha256)
                for file in _files(folder, model.variant, _SHARED)
            ]
    except OSError as error:
        raise _unreadable(error) from error
    console.say(f"  {len(files)} files, {sum(file.size for file in files) / 1e9:.2f} GB of weights")
    return files


def _unreadable(error: OSError) -> UploadFailed:
    if error.errno == errno.ENOSPC:
        return UploadFailed(
            "The disk is full; weights are downloaded to this machine before their upload.",
            f"Free some space, or set HF_HOME to a larger disk. {AGAIN}",
        )
    return UploadFailed(f"The weights could not be read: {error}", "Run the same command again.")


def _folder(model: Model, console: Console) -> Path:
    if model.source:
        return _fetch(model.source, model.variant, console)
    if model.folder is None:
        raise ValueError("a model requires a repository or a folder")
    return model.folder


def _files(folder: Path, variant: str | None, without: Collection[str] = ()) -> list[File]:
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    index = json.loads((folder / INDEX).read_text("utf-8"))
    chosen = choose(paths, index, variant, without)
    return [File.read(folder / place, place) for place in sorted(chosen)]


def choose(
    paths: Iterable[str],
    index: dict[str, Any],
    variant: str | None,
    without: Collection[str] = (),
) -> list[str]:
    """Return the files that a model's pipeline requires.

    Args:
        paths: all files, relative to the model's folder.
        index: the content of its `model_index.json`.
        variant: the infix of 16-bit weights, preferred where a component has them.
        without: components to leave out.

    Raises:
        BadArgument: if a component has weights, but no safetensors.
    """
    available = list(paths)
    # Besides the components: the model's own defaults, and code that was compiled for it.
    chosen = [path for path in available if path in {INDEX, "easel.json"} or _is_compiled(path)]
    for component in _components(index):
        if component in without:
            continue
        inside = [path for path in available if PurePosixPath(path).parent.as_posix() == component]
        chosen += _choose_inside(component, inside, variant)
    return chosen


def _components(index: dict[str, Any]) -> list[str]:
    return [
        name
        for name, value in index.items()
        # [library, class]; an optional component that is missing has [null, null].
        if isinstance(value, list) and len(value) == 2 and value[1] is not None
    ]


def _choose_inside(component: str, paths: list[str], variant: str | None) -> list[str]:
    texts = [path for path in paths if PurePosixPath(path).suffix in _TEXTS]
    weights = [path for path in paths if path.endswith(_SAFE)]
    # Half the size of the plain files, and the precision in which the GPU computes.
    small = [path for path in weights if variant and _has_infix(path, variant)]
    if not weights and any(path.endswith((".bin", ".ckpt", ".pt")) for path in paths):
        raise BadArgument(
            f"The weights of {component} are not in the safetensors format.",
            "Convert the model first: files in other formats can run code when they are loaded.",
        )
    # A repository without plain files has only some other variant.
    plain = [path for path in weights if not _is_variant(path)] or weights
    return texts + (small or plain)


def _is_compiled(path: str) -> bool:
    return PurePosixPath(path).match("compiled/*.tar.gz") and path.count("/") == 1


def _has_infix(path: str, variant: str) -> bool:
    name = PurePosixPath(path).name
    return f".{variant}." in name or f".{variant}-" in name


def _is_variant(path: str) -> bool:
    return "." in PurePosixPath(path).name.removesuffix(_SAFE)


def _fetch(
    repository: Repository, variant: str | None, console: Console, without: Collection[str] = ()
) -> Path:
    """Return the folder of a repository's snapshot; download the missing files first."""
    import huggingface_hub  # slow to import, and needed here only
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    console.say(f"  downloading {repository.name} at {repository.revision[:12]}")
    try:
        info = huggingface_hub.HfApi().model_info(repository.name, revision=repository.revision)
        paths = [item.rfilename for item in info.siblings or []]
        index = huggingface_hub.hf_hub_download(
            repository.name, INDEX, revision=repository.revision
        )
        chosen = choose(paths, json.loads(Path(index).read_text("utf-8")), variant, without)
        return Path(
            huggingface_hub.snapshot_download(
                repository.name, revision=repository.revision, allow_patterns=chosen
            )
        )
    except GatedRepoError as error:  # first: it is a subclass of HfHubHTTPError
        raise BadArgument(
            f"{repository.name} is gated.",
            f"Accept its terms at https://huggingface.co/{repository.name}, and set HF_TOKEN.",
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise BadArgument(
            f"{repository.name} cannot be downloaded: {error}", "Check name, revision and network."
        ) from error
