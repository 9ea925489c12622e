"""Which files belong to a model folder, for the container as for those who upload it.

    model_index.json, unet/ ...   a diffusers pipeline, in the folder itself or in base/
    refiner/                      the pipeline that runs the last steps
    loras/                        LoRA adapters
    merged_lora/                  one LoRA that is merged into the weights when the model loads
    quantised/                    a quantised transformer, which replaces the pipeline's own weights
    easel.json                    the model's own defaults
    compiled/                     code that was compiled for it

A modular pipeline of diffusers has a `modular_model_index.json` instead. Names that begin with a dot
never count: they are the remains of other programs.
Most functions work on relative paths, because they serve folders as well as a hub's list of files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

INDEX = "model_index.json"
MODULAR_INDEX = "modular_model_index.json"
INDEXES = (INDEX, MODULAR_INDEX)  # the first that there is describes the pipeline
DEFAULTS = "easel.json"
BASE, REFINER, LORAS, COMPILED = "base/", "refiner/", "loras/", "compiled/"
MERGED_LORA, QUANTISED = "merged_lora/", "quantised/"
VARIANT = "fp16"
SAFE = ".safetensors"
# The usual names of files by torch.save, which are Python pickles.
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
GGUF = ".gguf"
# Language models that rewrite a prompt before it is painted: ERNIE-Image's and FLUX.3's. They take
# as much memory as the model itself, and a prompt would not be painted as it was written.
REWRITERS = {"pe", "pe_tokenizer", "prompt_upsampler", "prompt_upsampler_processor"}
# SDXL's refiner shares these with its base, which passes them on.
SHARED = ("text_encoder_2", "tokenizer_2", "vae")
# Configurations, vocabularies, sentencepiece models and chat templates.
_TEXTS = {".json", ".txt", ".model", ".jinja", ".tiktoken"}


class FolderUnusable(Exception):
    """A model folder cannot be used; the text names the file and what to do."""


@dataclass(frozen=True)
class Selection:
    """The files of a model folder, as sorted relative paths.

    Attributes:
        files: what belongs to the model.
        left_out: what does not; a folder of which nothing belongs ends in a slash.
    """

    files: list[str]
    left_out: list[str]


def select(folder: Path) -> Selection:
    """Return which files of a folder belong to its model: what the container could read.

    Of weights in 32 and in 16 bits, those in 16 bits belong to it. Files whose names are not UTF-8
    do not.

    Raises:
        FolderUnusable: if it contains no model, or an index that cannot be read.
    """
    paths = list_files(folder)
    root = root_of(paths)
    if root is None:
        raise FolderUnusable(f"{folder} contains no {INDEX}, neither itself nor in {BASE}")
    index = read_object(folder / root / index_in(_below(paths, root)))
    chosen = {root + path for path in choose(_below(paths, root), index, VARIANT)}
    if quantised_files(paths):
        chosen -= {path for path in chosen if is_replaced(path.removeprefix(root))}
    if REFINER + INDEX in paths:
        shared = shared_components(index, refiner := read_object(folder / REFINER / INDEX))
        inside = choose(_below(paths, REFINER), refiner, VARIANT, shared)
        # Its own defaults and compiled code are never read.
        chosen |= {REFINER + path for path in inside if path == INDEX or _is_inside(path, refiner)}
    chosen |= {path for path in paths if _is_extra(path) or is_adapter(path)}
    chosen |= {*quantised_files(paths), *merged_loras(paths)}
    chosen = set(filter(is_utf8, chosen))
    return Selection(sorted(chosen), sorted(map(printable, _summary(paths, chosen))))


def root_of(paths: Collection[str]) -> str | None:
    """Return where the pipeline is: in the folder itself, in `base/`, or (None) nowhere."""
    roots = (root for root in ("", BASE) for name in INDEXES if root + name in paths)
    return next(roots, None)


def index_in(paths: Collection[str]) -> str:
    """Return the name of the index among the paths of a pipeline's folder."""
    return next((name for name in INDEXES if name in paths), INDEX)


def index_of(folder: Path) -> str:
    """Return the name of the index in a pipeline's folder."""
    return index_in([name for name in INDEXES if (folder / name).is_file()])


def holds_model(folder: Path) -> bool:
    """Whether the folder itself is a diffusers pipeline."""
    return any((folder / name).is_file() for name in INDEXES)


def contains_model(folder: Path) -> bool:
    """Whether there is a pipeline in the folder, or in `base/` in it."""
    return any(holds_model(folder / root) for root in ("", BASE))


def shared_components(base: Mapping[str, Any], refiner: Mapping[str, Any]) -> list[str]:
    """Return the components that a refiner takes from its base, and that its folder can lack."""
    if is_sdxl(base):
        return list(SHARED)
    # Stable Diffusion 1 and 2 continue with another UNet, and with nothing else.
    return [name for name in components(refiner) if name != "unet"]


def is_sdxl(index: Mapping[str, Any]) -> bool:
    """Whether an index is of Stable Diffusion XL."""
    return str(index.get("_class_name", "")).startswith("StableDiffusionXL")


def choose(
    paths: Iterable[str],
    index: Mapping[str, Any],
    variant: str | None,
    without: Collection[str] = (),
) -> list[str]:
    """Return the files that a pipeline needs.

    Args:
        paths: all files, relative to the pipeline's folder.
        index: the content of its `model_index.json`.
        variant: the infix of 16-bit weights, preferred where a component has them.
        without: components to leave out.
    """
    available = [path for path in paths if not _is_hidden(path)]
    chosen = [path for path in available if path in INDEXES or _is_extra(path)]
    for name in components(index, without):
        chosen += choose_component(within(available, name), variant)
    return chosen


def choose_component(paths: Iterable[str], variant: str | None) -> list[str]:
    """Return the files to read of one component's: its texts, and one form of its weights."""
    texts, weights = [], []
    for path in paths:
        if PurePosixPath(path).suffix in _TEXTS:
            texts.append(path)
        elif is_safe(path):
            weights.append(path)
    # 16 bits are half the size, and the precision in which a GPU computes.
    small = [path for path in weights if variant and is_variant(path, variant)]
    # A component without plain files has only some other variant.
    plain = [path for path in weights if _is_plain(path)] or weights
    return texts + (small or plain)


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON file that contains an object, as diffusers would read it.

    Raises:
        FolderUnusable: if it cannot be read; a byte order mark is enough.
    """
    return _object(path, "utf-8", "copy it from the model's source again")


def _object(path: Path, encoding: str, advice: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding=encoding)
        if text.startswith("\ufeff"):
            raise FolderUnusable(
                f"{path} begins with a byte order mark, which diffusers does not read; save it as "
                "UTF-8 without one"
            )
        data = json.loads(text)
    except OSError as error:
        reason = error.strerror or error
        raise FolderUnusable(f"{path} cannot be read ({reason}); check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise FolderUnusable(f"{path} is not complete JSON ({error}); {advice}") from error
    if not isinstance(data, dict):
        raise FolderUnusable(f"{path} is not a JSON object; {advice}")
    return data


def read_defaults(path: Path) -> dict[str, Any]:
    """Return an `easel.json`, which is written by hand: a byte order mark is read over.

    Raises:
        FolderUnusable: if it cannot be read as a JSON object.
    """
    return _object(path, "utf-8-sig", "correct it")


def components(index: Mapping[str, Any], without: Collection[str] = ()) -> list[str]:
    """Return the names of the pipeline's components, which are its subfolders' names."""
    # A component is [library, class]; [null, null] is an optional one that the model lacks. Other
    # lists, such as _ignore_files, have names of diffusers' own. A modular pipeline's component has a
    # third item, which says where it is from.
    return [
        name
        for name, value in index.items()
        if isinstance(value, list) and len(value) in {2, 3} and value[1] and name not in without
        if not name.startswith("_") and name not in REWRITERS
    ]


def is_elsewhere(value: Sequence[Any], names: Collection[str]) -> str | None:
    """Return the repository from which a modular pipeline takes a component; None if it has it.

    Args:
        value: of the component in the index: library, class, and where it is.
        names: of the files in the component's folder; a local copy precedes every other place.
    """
    place = value[2] if len(value) == 3 and isinstance(value[2], Mapping) else {}
    source = place.get("pretrained_model_name_or_path")
    return None if names or not isinstance(source, str) else source


def list_files(folder: Path) -> list[str]:
    """Return the folder's files as relative POSIX paths; links are followed, hidden files not."""
    paths: list[str] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        # A link to a folder above it would never end.
        folders[:] = [] if real in seen else [name for name in folders if not _is_hidden(name)]
        if real not in seen:
            seen.add(real)
            paths += [
                (Path(parent) / name).relative_to(folder).as_posix()
                for name in names
                if not _is_hidden(name) and (Path(parent) / name).is_file()
            ]
    # Sorted, because the order on disk differs between machines.
    return sorted(paths)


def is_utf8(path: str) -> bool:
    """Whether a path is UTF-8: neither S3 nor the safetensors library has any other."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(path: str) -> str:
    """Return a path that can be printed: a byte that is not UTF-8 becomes an escape sequence."""
    return path if is_utf8(path) else os.fsencode(path).decode("utf-8", "backslashreplace")


def is_variant(path: str, variant: str = VARIANT) -> bool:
    """Whether a file of weights, or a shard, or their index, is of the 16-bit variant."""
    name = PurePosixPath(path).name
    return f".{variant}." in name or f".{variant}-" in name


def is_safe(path: str) -> bool:
    """Whether a path is of weights that load without running code."""
    return path.endswith(SAFE)


def is_adapter(path: str) -> bool:
    """Whether a relative path is a LoRA adapter's; the suffix may be in capitals."""
    return path.startswith(LORAS) and path.lower().endswith(SAFE) and not _is_hidden(path)


def quantised_files(paths: Iterable[str]) -> list[str]:
    """Return the files of a quantised transformer: a GGUF file, or weights and a configuration."""
    inside = (path for path in paths if path.startswith(QUANTISED) and not _is_hidden(path))
    return [path for path in inside if path.lower().endswith((GGUF, SAFE, ".json"))]


def merged_loras(paths: Iterable[str]) -> list[str]:
    """Return the LoRAs that are merged when the model loads; more than one is a mistake."""
    return [path for path in paths if path.startswith(MERGED_LORA) and is_safe(path)]


def is_replaced(path: str) -> bool:
    """Whether a pipeline's file is of the weights that a quantised transformer replaces."""
    return path.startswith("transformer/") and path.endswith((SAFE, f"{SAFE}.index.json"))


def within(files: Iterable[str], component: str) -> list[str]:
    """Return the paths that are directly in a component's folder, without hidden ones."""
    return [
        path
        for path in files
        if PurePosixPath(path).parent.as_posix() == component and not _is_hidden(path)
    ]


def choose_variant(
    files: Collection[str], names: Iterable[str], *, prefer_variant: bool
) -> str | None:
    """Return the variant to load, or None for the plain files.

    A folder often contains weights twice, in 32 and in 16 bits. Reading the latter takes half the
    time, so they are chosen if the model computes in 16 bits, or if a component has no others.
    """
    any_variant = False
    for name in names:
        weights = [path for path in within(files, name) if is_safe(path)]
        has_variant = any(is_variant(path) for path in weights)
        any_variant = any_variant or has_variant
        # `from_pretrained` takes one variant for all components, so such a component decides.
        if has_variant and all(is_variant(path) for path in weights):
            return VARIANT
    return VARIANT if any_variant and prefer_variant else None


def pickled_only(files: Collection[str], names: Iterable[str]) -> list[str]:
    """Return the components whose weights exist only in forms that can run code on loading."""
    return [
        name
        for name in names
        if any(path.endswith(PICKLES) for path in within(files, name))
        and not any(is_safe(path) for path in within(files, name))
    ]


def pickle_refusal(names: list[str]) -> str:
    """Return the message that refuses weights which could run code."""
    return (
        f"the weights of {', '.join(names)} exist only pickled, and unpickling can run any code in "
        "them; set EASEL_ALLOW_PICKLE=on if you trust their source"
    )


def _is_extra(path: str) -> bool:
    is_compiled = PurePosixPath(path).match(f"{COMPILED}*.tar.gz") and path.count("/") == 1
    return path == DEFAULTS or (is_compiled and not _is_hidden(path))


def _is_plain(path: str) -> bool:
    return "." not in PurePosixPath(path).name.removesuffix(SAFE)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _is_inside(path: str, index: Mapping[str, Any]) -> bool:
    return path.partition("/")[0] in components(index)


def _below(paths: Iterable[str], root: str) -> list[str]:
    return [path.removeprefix(root) for path in paths if path.startswith(root)]


def _summary(paths: Iterable[str], chosen: Collection[str]) -> set[str]:
    """Return what is not chosen; a folder of which nothing is chosen is one entry."""
    parents = {str(parent) for path in chosen for parent in PurePosixPath(path).parents}
    left_out: set[str] = set()
    for path in paths:
        if path not in chosen:
            left_out.add(next(_unused(path, parents), path))
    return left_out


def _unused(path: str, parents: Collection[str]) -> Iterator[str]:
    for parent in reversed(PurePosixPath(path).parents):
        if str(parent) not in parents:
            yield f"{parent}/"
