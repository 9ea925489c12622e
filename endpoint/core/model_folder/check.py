"""Whether the files of a model folder are what a container can load, before anything is paid for.

Headers, names and lengths are read, and no weights, so it takes milliseconds. A fault names a file
and what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from . import files as rule
from .description import FIELDS as DESCRIPTION
from .description import Description
from .files import BASE, DEFAULTS, INDEX, REFINER, SAFE, VARIANT, FolderUnusable
from .weights_file import AGAIN, WeightsUnusable, check_gguf, check_kind, check_weights

CONVERT = "python model_package/convert.py"
_AGAIN = "copy it from the model's source again"
# The components without which these pipelines do not load or generate.
_DIFFUSION_1 = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
_TRANSFORMER = ("vae", "text_encoder", "tokenizer", "transformer", "scheduler")
_TWO_ENCODERS = ("text_encoder_2", "tokenizer_2")
REQUIRED: Mapping[str, Sequence[str]] = {
    "StableDiffusionPipeline": _DIFFUSION_1,
    "LatentConsistencyModelPipeline": _DIFFUSION_1,
    "StableDiffusionXLPipeline": (*_DIFFUSION_1, *_TWO_ENCODERS),
    "FluxPipeline": (*_TRANSFORMER, *_TWO_ENCODERS),
    "StableDiffusion3Pipeline": (*_TRANSFORMER, *_TWO_ENCODERS),
    **dict.fromkeys(
        (
            "ErnieImagePipeline",
            "Flux2KleinPipeline",
            "Flux3DistilledModularPipeline",
            "Flux3ModularPipeline",
            "PixArtAlphaPipeline",
            "PixArtSigmaPipeline",
            "QwenImagePipeline",
            "SanaPipeline",
            "ZImagePipeline",
        ),
        _TRANSFORMER,
    ),
}
# diffusers makes a modular pipeline's scheduler itself, if its index names none.
_MADE = {"scheduler"}
_COMPONENTS = {name for names in REQUIRED.values() for name in names} | {
    *("safety_checker", "feature_extractor", "image_encoder", "text_encoder_3", "tokenizer_3")
}
# Classes that have a configuration and no weights, by the ends of their names.
_SCHEDULER = re.compile(r"Scheduler$")
_TOKENIZER = re.compile(r"Tokenizer(Fast)?$")
_PROCESSOR = re.compile(r"(Processor|FeatureExtractor)(Fast|Pil)?$")
# One set of each is enough.
_VOCABULARIES = (
    {"tokenizer.json"},
    {"vocab.json", "merges.txt"},
    {"spiece.model"},
    {"tokenizer.model"},
    {"sentencepiece.bpe.model"},
    {"vocab.txt"},
    {"tokenizer.tiktoken"},
    {"qwen.tiktoken"},
)
_STEMS = {"diffusers": ("diffusion_pytorch_model",), "transformers": ("model",)}
# easel.json: least, most, and the unit of whole numbers. A test compares them with the contract.
LIMITS: Mapping[str, tuple[float, float, int | None]] = {
    "steps": (1, 100, 1),
    "guidance_scale": (0, 30, None),
    "width": (64, 1_536, 8),
    "height": (64, 1_536, 8),
    "refiner_start": (0.1, 1, None),
    "largest_area": (16_384, 2_359_296, 1),
}


@dataclass(frozen=True)
class Fault:
    """Something wrong with a model folder.

    Attributes:
        path: the file or folder, relative to the model folder.
        finding: what is wrong; continues the sentence that the path begins.
        advice: what to do about it.
        fatal: whether the model cannot be used because of it.
    """

    path: str
    finding: str
    advice: str
    fatal: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", rule.printable(self.path))

    def __str__(self) -> str:
        return f"{self.path} {self.finding}: {self.advice}"


def check(folder: Path, *, allow_pickle: bool = False, offline: bool = False) -> list[Fault]:
    """Return the faults of a model folder, those first that prevent its use.

    Args:
        folder: the folder.
        allow_pickle: whether weights in `.bin` files can be used where there are no others.
        offline: whether nothing can be fetched from the hub when the model loads.
    """
    faults = list(_Checker(folder, allow_pickle=allow_pickle, offline=offline).faults())
    return sorted(faults, key=lambda fault: not fault.fatal)


def check_pipeline(
    folder: Path,
    index: Mapping[str, Any],
    shared: Collection[str],
    *,
    allow_pickle: bool,
    offline: bool = False,
) -> list[Fault]:
    """Return the faults of one pipeline's own folder, without the components in `shared`."""
    checker = _Checker(folder, allow_pickle=allow_pickle, offline=offline)
    return list(checker.pipeline("", index, shared))


def single_file(path: Path) -> Fault:
    """Return the fault of a checkpoint in one file, where a folder is required."""
    advice = f"make a folder of it with `{CONVERT} {path} FOLDER`, and use that"
    return Fault(path.name, "is a single-file checkpoint", advice)


class _Checker:
    """Checks one folder; a method yields the faults of one thing."""

    def __init__(self, folder: Path, *, allow_pickle: bool, offline: bool) -> None:
        self._folder = folder
        self._paths = rule.list_files(folder)
        self._allow_pickle, self._offline = allow_pickle, offline

    def faults(self) -> Iterator[Fault]:
        if not self._folder.is_dir():
            yield Fault(str(self._folder), "is not a folder", "pass a diffusers folder")
            return
        root = rule.root_of(self._paths)
        if root is None:
            yield from self._no_model()
        else:
            base = yield from self._index(root)
            if base is not None:
                yield from self.pipeline(root, base, ())
                if REFINER + INDEX in self._paths:
                    yield from self._refiner(base)
            yield from self._extras()
        for place in {DEFAULTS, f"{root or ''}{DEFAULTS}"} & {*self._paths}:
            yield from self._defaults(place)
        for path in filter(rule.is_adapter, self._paths):
            yield from self._adapter(path)

    def _no_model(self) -> Iterator[Fault]:
        checkpoints = [
            path
            for path in self._paths
            if "/" not in path and path.lower().endswith((SAFE, ".ckpt", ".pt", ".gguf"))
        ]
        for path in checkpoints:
            yield single_file(self._folder / path)
        if not checkpoints:
            inside = {
                path.removesuffix(name)
                for path in self._paths
                for name in rule.INDEXES
                if path.endswith(f"/{name}")
            }
            # A base and its refiner are one model, in the folder of both.
            models = {p.removesuffix(BASE).removesuffix(REFINER) for p in inside}
            # The one that is least deep is meant.
            nearest = min(models, key=lambda path: (path.count("/"), path), default="")
            where = f"pass {self._folder / nearest}" if nearest else "pass a diffusers folder"
            yield Fault(INDEX, f"is missing in {self._folder}", f"{where}, or {_AGAIN}")

    def _index(self, root: str) -> Any:
        """Yield the faults of an index, and return its content if that is usable."""
        path = root + rule.index_of(self._folder / root)
        try:
            index = rule.read_object(self._folder / path)
        except FolderUnusable as error:
            yield self._unreadable(path, error)
            return None
        name = index.get("_class_name")
        if not isinstance(name, str) or not name:
            yield Fault(path, "names no pipeline in _class_name", _AGAIN)
            return None
        for key, value in index.items():
            must_be = key in _COMPONENTS or (isinstance(value, list) and not key.startswith("_"))
            if must_be and not _is_component(value):
                finding = f"has {key} that is not [library, class]"
                yield Fault(path, finding, _AGAIN)
                return None
        return index

    def pipeline(
        self, root: str, index: Mapping[str, Any], shared: Collection[str]
    ) -> Iterator[Fault]:
        names = rule.components(index)
        path = root + rule.index_of(self._folder / root)
        made = _MADE if path.endswith(rule.MODULAR_INDEX) else set()
        required = () if shared else REQUIRED.get(str(index.get("_class_name")), ())
        for name in required:
            if name not in names and name not in made:
                yield Fault(path, f"does not name {name}", _AGAIN)
        for name in rule.components(index, shared):
            library, kind, *_ = index[name]
            place = f"{root}{name}"
            source = rule.is_elsewhere(index[name], rule.within(self._paths, place))
            if source is None:
                yield from self._component(place, str(library), str(kind))
            else:
                finding = f"is not here, and {path} names {source}"
                advice = "it is fetched from the hub when the model loads"
                if self._offline:
                    advice = "copy it from there, because the model loads without the hub"
                yield Fault(f"{place}/", finding, advice, fatal=self._offline)

    def _extras(self) -> Iterator[Fault]:
        """Yield the faults of a quantised transformer, and of a LoRA to merge."""
        merged = rule.merged_loras(self._paths)
        if len(merged) > 1:
            finding = f"has {len(merged)} files, and one LoRA is merged"
            yield Fault(rule.MERGED_LORA, finding, "keep the one to merge")
        quantised = rule.quantised_files(self._paths)
        for path in [*merged, *(path for path in quantised if rule.is_safe(path))]:
            yield from self._read_weights(path, formats=False)
        files = [path for path in quantised if path.lower().endswith(rule.GGUF)]
        for path in files:
            yield from self._look(path, check_gguf)
        if len(files) > 1:
            finding = f"has {len(files)} files in GGUF, and one is loaded"
            yield Fault(rule.QUANTISED, finding, "keep the one to load")

    def _component(self, place: str, library: str, kind: str) -> Iterator[Fault]:
        names = {PurePosixPath(path).name for path in rule.within(self._paths, place)}
        if not names:
            yield Fault(f"{place}/", "is missing or empty, and the model needs it", _AGAIN)
            return
        yield from self._texts(place, names)
        if _SCHEDULER.search(kind):
            yield from _one_of(place, names, {"scheduler_config.json"})
        elif _TOKENIZER.search(kind):
            if not any(vocabulary <= names for vocabulary in _VOCABULARIES):
                yield Fault(f"{place}/", "has no complete vocabulary", _AGAIN)
        elif _PROCESSOR.search(kind):
            yield from _one_of(place, names, {"preprocessor_config.json", "processor_config.json"})
        else:
            yield from _one_of(place, names, {"config.json"})
            if not (place.endswith("transformer") and rule.quantised_files(self._paths)):
                yield from self._weights(place, names, library)

    def _texts(self, place: str, names: Collection[str]) -> Iterator[Fault]:
        for name in sorted(names):
            if name.endswith(".json"):
                yield from self._json(f"{place}/{name}")
            elif not name.endswith((SAFE, *rule.PICKLES)):
                yield from self._kind(f"{place}/{name}")

    def _json(self, path: str) -> Iterator[Fault]:
        kind = list(self._kind(path))
        try:
            # Before the kind: JSON of another kind is found by reading it.
            rule.read_object(self._folder / path)
        except FolderUnusable as error:
            yield from kind or [self._unreadable(path, error)]

    def _weights(self, place: str, names: Collection[str], library: str) -> Iterator[Fault]:
        stems = _STEMS.get(library, ("diffusion_pytorch_model", "model"))
        usable = [name for name in sorted(names) if _is_weights(name, stems)]
        indexes = [name for name in sorted(names) if _is_weights_index(name, stems)]
        if library == "transformers":  # reads a whole file first, diffusers an index
            indexes = [] if any(map(_is_whole, usable)) else indexes
        if not usable:
            yield self._no_weights(place, names, stems)
            return
        for name in usable:
            yield from self._read_weights(f"{place}/{name}", formats=library == "transformers")
        for name in indexes:
            yield from self._shards(place, name, names)
        if not indexes and not any(map(_is_whole, usable)):
            path = f"{place}/{stems[0]}{SAFE}.index.json"
            yield Fault(path, "is missing, and without it the parts are not found", _AGAIN)

    def _no_weights(self, place: str, names: Collection[str], stems: Sequence[str]) -> Fault:
        safe = sorted(name for name in names if rule.is_safe(name))
        right = f"{stems[0]}{SAFE}"
        if safe:
            advice = f"rename it to {right}, if it is the one to use"
            return Fault(f"{place}/{safe[0]}", "is a name that is not looked for", advice)
        pickles = sorted(name for name in names if name.endswith(rule.PICKLES))
        if pickles and self._allow_pickle:
            return Fault(f"{place}/{pickles[0]}", "is pickled", "read anyway", fatal=False)
        if pickles:
            advice = (
                "convert it to safetensors, because unpickling can run any code in the file "
                "(EASEL_ALLOW_PICKLE=on permits that to the container)"
            )
            return Fault(f"{place}/{pickles[0]}", "is pickled", advice)
        return Fault(f"{place}/{right}", "is missing", _AGAIN)

    def _shards(self, place: str, index: str, names: Collection[str]) -> Iterator[Fault]:
        try:
            weights = rule.read_object(self._folder / place / index).get("weight_map")
        except FolderUnusable:
            return  # reported with the other JSON files
        if not isinstance(weights, dict) or not weights:
            yield Fault(f"{place}/{index}", "lists no files", _AGAIN)
            return
        for name in sorted({str(value) for value in weights.values()}):
            if name not in names:
                yield Fault(f"{place}/{name}", f"is missing, and {index} lists it", AGAIN)

    def _refiner(self, base: Mapping[str, Any]) -> Iterator[Fault]:
        index = yield from self._index(REFINER)
        if index is None:
            return
        own, other = base["_class_name"], index["_class_name"]
        fits = "Img2Img" in other or "Inpaint" in other if rule.is_sdxl(base) else own == other
        if not fits:
            advice = "use SDXL's refiner for SDXL, and a model of the same class for others"
            yield Fault(REFINER + INDEX, f"names {other}, which cannot follow {own}", advice)
        elif "unet" not in rule.components(index):
            yield Fault(REFINER + INDEX, "does not name unet", _AGAIN)
        else:
            yield from self.pipeline(REFINER, index, rule.shared_components(base, index))

    def _defaults(self, path: str) -> Iterator[Fault]:
        try:
            data = rule.read_defaults(self._folder / path)
        except FolderUnusable as error:
            yield self._unreadable(path, error)
            return
        described = {name: data.pop(name) for name in DESCRIPTION if name in data}
        try:
            Description.from_dict(described)
        except ValueError as error:
            yield Fault(path, f"has a wrong description ({error})", "correct it")
        for name, value in data.items():
            if name not in LIMITS:
                advice = f"use {', '.join(LIMITS)}"
                yield Fault(path, f"has {str(name)[:80]}, which is not a default", advice)
            elif value is not None and not _is_within(value, *LIMITS[name]):
                least, most, unit = LIMITS[name]
                step = f", in steps of {unit}" if unit else ""
                yield Fault(path, f"has a wrong {name}", f"use {least:g} to {most:g}{step}")

    def _adapter(self, path: str) -> Iterator[Fault]:
        if not rule.is_utf8(path):
            finding = "has a name that is not UTF-8, so it is not offered"
            yield Fault(path, finding, "rename it", fatal=False)
            return
        for fault in self._read_weights(path, formats=False):
            yield Fault(path, f"{fault.finding}, so it is not offered", fault.advice, fatal=False)

    def _read_weights(self, path: str, *, formats: bool) -> Iterator[Fault]:
        yield from self._look(path, lambda file: check_weights(file, formats=formats))

    def _kind(self, path: str) -> Iterator[Fault]:
        yield from self._look(path, check_kind)

    def _look(self, path: str, look: Callable[[Path], None]) -> Iterator[Fault]:
        try:
            look(self._folder / path)
        except WeightsUnusable as error:
            yield Fault(path, str(error), error.advice)
        except OSError as error:
            reason = error.strerror or str(error)
            yield Fault(path, f"cannot be read ({reason})", "check the file and its permissions")

    def _unreadable(self, path: str, error: FolderUnusable) -> Fault:
        finding, _, advice = str(error).removeprefix(f"{self._folder / path} ").partition("; ")
        return Fault(path, finding, advice or _AGAIN)


def _is_component(value: Any) -> bool:
    if not isinstance(value, list) or len(value) not in {2, 3}:
        return False
    names, place = value[:2], value[2:]  # a modular pipeline's index also says where it is from
    kinds = names == [None, None] or all(isinstance(name, str) for name in names)
    return kinds and all(isinstance(each, dict) for each in place)


def _one_of(place: str, names: Collection[str], needed: set[str]) -> Iterator[Fault]:
    if not needed & {*names}:
        yield Fault(f"{place}/{min(needed)}", "is missing", _AGAIN)


def _is_weights(name: str, stems: Sequence[str]) -> bool:
    """Whether a file has a name under which weights, or a part of them, are looked for."""
    part = rf"({'|'.join(stems)})(\.{VARIANT})?(-\d{{5}}-of-\d{{5}})?(\.{VARIANT})?\{SAFE}"
    return bool(re.fullmatch(part, name))


def _is_weights_index(name: str, stems: Sequence[str]) -> bool:
    return any(
        name in (f"{stem}{SAFE}.index.json", f"{stem}{SAFE}.index.{VARIANT}.json") for stem in stems
    )


def _is_whole(name: str) -> bool:
    return "-of-" not in name


def _is_within(value: Any, least: float, most: float, unit: int | None) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return bool(least <= value <= most and (unit is None or value % unit == 0))
