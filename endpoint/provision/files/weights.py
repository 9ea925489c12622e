"""Select the weight files of a diffusers model, in a folder or on the Hugging Face hub.

A repository usually contains a model in several formats. `endpoint/core/model_folder` has the rule
which files belong to the model; the container has the same.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from endpoint.catalogue.models import Model, Repository
from endpoint.core.backends import setting
from endpoint.core.console import Console
from endpoint.core.model_folder import files
from endpoint.core.model_folder.check import Fault, check, check_pipeline
from endpoint.core.model_folder.files import (
    BASE,
    MERGED_LORA,
    QUANTISED,
    REFINER,
    SAFE,
    SHARED,
    VARIANT,
    FolderUnusable,
    components,
    holds_model,
    index_in,
    index_of,
    list_files,
    pickled_only,
    read_object,
    select,
)
from endpoint.core.problems import AGAIN, BadArgument, UploadFailed
from endpoint.provision.files.payload import File

TRANSFORMER = "transformer"


def gather(model: Model, console: Console) -> list[File]:
    """Return a model's local files; download them from the hub first if necessary.

    The hub's token (HF_TOKEN, or that of `hf auth login`) is used on this machine only.

    Raises:
        BadArgument: if the model's files cannot be used, or are gated.
        UploadFailed: if the hub cannot be reached, or refuses, or the disk is full.
    """
    try:
        gathered = _gather(model, console)
    except OSError as error:
        raise _unreadable(error) from error
    if model.backend != setting.EASEL.name:
        gathered = _without_variant(gathered, model)
    size = sum(file.size for file in gathered)
    console.say(f"  {len(gathered)} files, {size / 1e9:.2f} GB of weights")
    return gathered


def _gather(model: Model, console: Console) -> list[File]:
    if model.source is None:
        if model.folder is None:
            raise ValueError("a model requires a repository or a folder")
        return _local(model.folder, console)
    # A quantised denoiser takes the place of the model's own weights.
    without = (TRANSFORMER,) if model.denoiser else ()
    folder = _fetch(model.source, model.variant, console, without)
    gathered = _files(folder, model.variant, without)
    if model.refiner:
        folder = _fetch(model.refiner, model.variant, console, SHARED)
        gathered += [
            File(file.path, f"{REFINER}{file.place}", file.size, file.sha256)
            for file in _files(folder, model.variant, SHARED)
        ]
    for place, repository in ((MERGED_LORA, model.lora), (QUANTISED, model.denoiser)):
        if repository:
            gathered += _part(repository, place, console)
    return gathered


def _without_variant(gathered: Iterable[File], model: Model) -> list[File]:
    """Return a model's files with its 16-bit weights under the names of plain ones.

    The other servers load a folder without a variant, and then look for no other names.

    Raises:
        BadArgument: if 16-bit weights are in several files, whose index has their names.
    """
    gathered = list(gathered)
    small = {
        file.place
        for file in gathered
        if files.is_safe(file.place)
        and files.is_variant(file.place)
        and not files.is_adapter(file.place)
    }
    sharded = sorted(_folder_of(place) for place in small if f".{VARIANT}-" in place)
    if sharded:
        title = setting.read(model.backend).title
        raise BadArgument(
            f"The 16-bit weights of {', '.join(dict.fromkeys(sharded))} are several files each,"
            f" whose names {title} does not look for.",
            "Leave the download to the container with --weights fetch, or leave out --backend."
            if model.source
            else "Save the model again with `save_pretrained` and without `variant`.",
        )
    # An index next to them is of the shards in 32 bits, and would be read first.
    unused = {_folder_of(place) for place in small}
    return [
        replace(file, place=file.place.replace(f".{VARIANT}.", "."))
        if file.place in small
        else file
        for file in gathered
        if _folder_of(file.place) not in unused or f"{SAFE}.index." not in file.place
    ]


def _folder_of(place: str) -> str:
    return PurePosixPath(place).parent.as_posix()


def _unreadable(error: OSError) -> UploadFailed:
    if error.errno == errno.ENOSPC:
        return UploadFailed(
            "The disk is full; weights are downloaded to this machine before their upload.",
            f"Free some space, or set HF_HOME to a larger disk. {AGAIN}",
        )
    return UploadFailed(f"The weights could not be read: {error}", "Run the same command again.")


def require_usable(model: Model, console: Console) -> None:
    """Look at the files of a local folder, before anything is made or paid for.

    Raises:
        BadArgument: if the container could not load them; names each file and what to do.
    """
    if model.folder is None:
        return
    # The container of weights in S3 is offline, as are jobs.
    faults = check(model.folder, offline=True)
    for fault in faults:
        if not fault.fatal:
            console.say(f"{fault}.")
    _refuse(faults, model.folder)


def pipeline_of(folder: Path) -> str:
    """Return the class of the pipeline in a local folder, as diffusers names it.

    Raises:
        BadArgument: if the folder contains none that can be read.
    """
    home = folder if holds_model(folder) else folder / BASE
    return str(_read_index(home / index_of(home)).get("_class_name", "model without a class"))


def _refuse(faults: Sequence[Fault], source: object) -> None:
    if fatal := [fault for fault in faults if fault.fatal]:
        advice = "\n".join(f"{fault}." for fault in fatal)
        raise BadArgument(f"The model in {source} cannot be used.", advice)


def _local(folder: Path, console: Console) -> list[File]:
    try:
        selection = select(folder)
    except FolderUnusable as error:
        raise BadArgument(f"{error}.") from error
    if selection.left_out:
        names = shortened(selection.left_out)
        console.say(f"  left out, because no part of the model: {names}")
    return [File.read(folder / place, place) for place in selection.files]


def shortened(names: Sequence[str], most: int = 20) -> str:
    """Return names separated by commas, and the number of those that are too many to list."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _files(folder: Path, variant: str | None, without: Collection[str] = ()) -> list[File]:
    index = _read_index(folder / index_of(folder))
    faults = check_pipeline(folder, index, without, allow_pickle=False, offline=True)
    _refuse(faults, folder)
    chosen = choose(list_files(folder), index, variant, without)
    return [File.read(folder / place, place) for place in sorted(chosen)]


def choose(
    paths: Iterable[str],
    index: dict[str, Any],
    variant: str | None,
    without: Collection[str] = (),
) -> list[str]:
    """Return the files that a model's pipeline requires; arguments as in `model_folder.files`.

    Of a transformer that is left out, its configuration is one of them.

    Raises:
        BadArgument: if a component has weights, but no safetensors.
    """
    available = list(paths)
    pickled = pickled_only(available, components(index, without))
    if pickled:
        raise BadArgument(
            f"The weights of {', '.join(pickled)} are not in the safetensors format.",
            "Convert the model first: files in other formats can run code when they are loaded.",
        )
    chosen = files.choose(available, index, variant, without)
    if TRANSFORMER in without:
        texts = files.choose_component(files.within(available, TRANSFORMER), variant)
        chosen += [path for path in texts if not files.is_replaced(path)]
    return chosen


def _read_index(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except FolderUnusable as error:
        raise BadArgument(f"{error}.") from error


def _fetch(
    repository: Repository, variant: str | None, console: Console, without: Collection[str] = ()
) -> Path:
    """Return the folder of a repository's snapshot; download the missing files first."""
    import huggingface_hub  # slow to import, and needed here only

    _announce(repository, console)
    with _translated(repository):
        info = huggingface_hub.HfApi().model_info(repository.name, revision=repository.ref)
        paths = [item.rfilename for item in info.siblings or []]
        index = huggingface_hub.hf_hub_download(
            repository.name, index_in(paths), revision=repository.ref
        )
        chosen = choose(paths, _read_index(Path(index)), variant, without)
        return Path(
            huggingface_hub.snapshot_download(
                repository.name, revision=repository.ref, allow_patterns=chosen
            )
        )


def _part(repository: Repository, place: str, console: Console) -> list[File]:
    """Return the file, or those of the folder, that a repository is read for; download them first.

    Raises:
        UploadFailed: if the repository has none.
    """
    import huggingface_hub

    _announce(repository, console)
    with _translated(repository):
        snapshot = huggingface_hub.snapshot_download(
            repository.name,
            revision=repository.ref,
            allow_patterns=[repository.file, f"{repository.file}/*"],
        )
    part = Path(snapshot) / repository.file
    if part.is_file():
        return [File.read(part, f"{place}{part.name}")]
    files = [File.read(part / name, f"{place}{name}") for name in list_files(part)]
    if not files:
        raise UploadFailed(f"{repository.name} has no {repository.file}.", AGAIN)
    return files


def _announce(repository: Repository, console: Console) -> None:
    console.say(f"  downloading {repository.name} at {repository.ref[:12]}")


@contextmanager
def _translated(repository: Repository) -> Iterator[None]:
    from huggingface_hub.errors import GatedRepoError  # slow to import, and needed here only

    try:
        yield
    except GatedRepoError as error:  # first: it is a subclass of HfHubHTTPError
        raise BadArgument(
            f"{repository.name} is gated.",
            f"Accept its terms at https://huggingface.co/{repository.name}, and set HF_TOKEN.",
        ) from error
    except BadArgument:
        raise
    except Exception as error:  # the hub's HTTP library, and its errors, change between versions
        raise UploadFailed(
            f"{repository.name} cannot be downloaded: {error}.",
            "Check its name, the revision and the network, and run the same command again.",
        ) from error
