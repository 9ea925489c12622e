"""Fetch a model from the hub: the files of its pipeline, once each, and nothing else.

A repository usually contains a model several times: in 32 and 16 bits, pickled, for ONNX, for
OpenVINO, and in a single file. Only the components in `model_index.json` are fetched, as
safetensors, in 16 bits if there are such files. A repository is a model folder like any other
(`model_folder/files.py`): its pipeline can be in `base/`, and its `refiner/` and `loras/` belong to
it.

huggingface_hub's own variables set the cache folder, the token, the address and whether the network
is used: `HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors

from easel.errors import ModelUnusable
from easel.model_folder import files as model_folder

# Definite answers of the hub. After any other failure an earlier download may help.
_DEFINITE = (
    errors.RepositoryNotFoundError,
    errors.RevisionNotFoundError,
    model_folder.FolderUnusable,
    ModelUnusable,
)


def fetch(
    model_id: str,
    revision: str | None,
    *,
    allow_pickle: bool,
    without: Collection[str] | None = None,
    replaced: bool = False,
    variables: str = "EASEL_MODEL",
) -> Path:
    """Return a local folder with the model; fetch the files that are missing there.

    Args:
        model_id: a repository's name, such as `stabilityai/sd-turbo`.
        revision: a branch, tag or commit; None for the repository's main branch.
        allow_pickle: fetch `.bin` weights of components that have no others.
        without: components that are not needed of a refiner's repository, of which nothing but the
            pipeline is fetched; None for a model's.
        replaced: leave out the weights that a quantised transformer replaces.
        variables: the prefix of the two settings that these come from, for messages.

    Raises:
        ModelUnusable: if it does not exist, is not accessible, is no diffusers pipeline, or if the
            hub cannot be reached and there is no earlier download.
    """
    with _translated(model_id, revision, variables):
        try:
            return _download(
                model_id, revision, without, replaced=replaced, allow_pickle=allow_pickle
            )
        except _DEFINITE:
            raise
        except Exception:  # noqa: BLE001 - the hub's HTTP library, and its errors, change between versions
            return _earlier_download(model_id, revision)


def fetch_files(
    repository: str, revision: str | None, paths: Collection[str], *, variables: str
) -> Path:
    """Return a local folder with some of a repository's files, in their folders.

    Args:
        repository: its name.
        revision: a branch, tag or commit; None for the main branch.
        paths: files, or patterns of them such as `transformer/*`.
        variables: the prefix of the settings that these come from, for messages.

    Raises:
        ModelUnusable: if it cannot be fetched and there is no earlier download.
    """
    with _translated(repository, revision, variables):
        download: Any = huggingface_hub.snapshot_download
        chosen = {"revision": revision, "allow_patterns": sorted(paths)}
        try:
            return Path(download(repository, **chosen))
        except _DEFINITE:
            raise
        except Exception:  # noqa: BLE001 - as in `fetch`
            return Path(download(repository, **chosen, local_files_only=True))


def _download(
    model_id: str,
    revision: str | None,
    without: Collection[str] | None,
    *,
    replaced: bool,
    allow_pickle: bool,
) -> Path:
    api = huggingface_hub.HfApi()
    info = api.model_info(model_id, revision=revision)
    files = [file.rfilename for file in info.siblings or []]
    root = model_folder.root_of(files)
    if root is None:
        raise ModelUnusable(f"{model_id} has no {model_folder.INDEX}: it is not a diffusers model")

    def choose(place: str, left_out: Collection[str]) -> list[str]:
        names = model_folder.components(read_index(place), left_out)
        inside = _below(files, place)
        if replaced:
            inside = [path for path in inside if not model_folder.is_replaced(path)]
        return [place + path for path in choose_files(inside, names, allow_pickle=allow_pickle)]

    def read_index(place: str) -> dict[str, Any]:
        name = model_folder.index_in(_below(files, place))
        path = api.hf_hub_download(model_id, place + name, revision=revision)
        return model_folder.read_object(Path(path))

    chosen = choose(root, without or ())
    if without is None:
        chosen += [path for path in files if path == model_folder.DEFAULTS]
        chosen += [path for path in files if model_folder.is_adapter(path)]
        chosen += model_folder.quantised_files(files) + model_folder.merged_loras(files)
        refiner = model_folder.REFINER
        if refiner + model_folder.INDEX in files:
            shared = model_folder.shared_components(read_index(root), read_index(refiner))
            chosen += choose(refiner, shared)
    # By the name of the revision instead of its commit: offline, only the name can be looked up.
    return Path(api.snapshot_download(model_id, revision=revision, allow_patterns=chosen))


def _below(files: Collection[str], place: str) -> list[str]:
    return [path.removeprefix(place) for path in files if path.startswith(place)]


def _earlier_download(model_id: str, revision: str | None) -> Path:
    """Return the folder of an earlier download, which has a part of the repository only."""

    def find(index: str) -> Path:
        path = huggingface_hub.hf_hub_download(
            model_id, index, revision=revision, local_files_only=True
        )
        return Path(path).parents[index.count("/")]

    *others, last = (root + name for root in ("", model_folder.BASE) for name in model_folder.INDEXES)
    for index in others:
        with suppress(errors.LocalEntryNotFoundError):
            return find(index)
    return find(last)


def choose_files(files: list[str], names: list[str], *, allow_pickle: bool) -> list[str]:
    """Return which of a repository's files its pipeline needs.

    Raises:
        ModelUnusable: if a component's weights exist only pickled, and that is not allowed.
    """
    pickled = model_folder.pickled_only(files, names)
    if pickled and not allow_pickle:
        raise ModelUnusable(model_folder.pickle_refusal(pickled))
    # easel.json is Easel's own file of defaults, which a repository may have.
    wanted = {*model_folder.INDEXES, model_folder.DEFAULTS}
    chosen = [path for path in files if path in wanted]
    for name in names:
        chosen += _choose_weights(model_folder.within(files, name), pickled=name in pickled)
    return chosen


def _choose_weights(files: list[str], *, pickled: bool) -> list[str]:
    # diffusers converts 16 bits to any type on loading.
    chosen = model_folder.choose_component(files, model_folder.VARIANT)
    if not pickled:
        return chosen
    weights = [path for path in files if path.endswith(".bin")]
    return chosen + ([path for path in weights if model_folder.is_variant(path)] or weights)


@contextmanager
def _translated(model_id: str, revision: str | None, variables: str) -> Iterator[None]:
    """Translate the hub's errors into one whose message says what to do."""
    source = f"{model_id} at {revision}" if revision else model_id
    try:
        yield
    except model_folder.FolderUnusable as error:
        raise ModelUnusable(str(error)) from error
    except errors.GatedRepoError as error:
        raise ModelUnusable(
            f"{model_id} is gated: accept its terms on its page, and set HF_TOKEN to a token with "
            "read access"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelUnusable(
            f"{model_id} has no revision {revision}: check {variables}_REVISION"
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ModelUnusable(
            f"{model_id} does not exist on the hub, or is private: check {variables}_ID, and "
            "HF_TOKEN if it is private"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise ModelUnusable(
            f"{source} is not in the local cache, and the hub could not be reached: check the "
            "network and HF_HUB_OFFLINE, or put the model into the model folder"
        ) from error
