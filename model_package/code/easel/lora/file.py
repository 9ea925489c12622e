"""A LoRA file: the layers that it changes, and the tensors of each change.

Supported are safetensors files as diffusers, peft, kohya's scripts and LyCORIS write them. A change
is scaled by `alpha / rank`; without an alpha in the file, alpha is the rank, as in those tools.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from easel import log
from easel.lora import keys
from easel.lora.formulas import Decomposed, Factors, Formula, Hadamard, Kronecker, LowRank, Whole
from easel.lora.keys import Key, LoraUnusable, Target
from easel.lora.peft_config import PeftConfig
from easel.model_folder.files import is_utf8
from generation import Name

_ENDING = ".safetensors"
_POINTER = b"version https://git-lfs"
_TYPES = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}
_LORA = ({"down", "up"}, {"down", "up", "mid"})
_HADA = {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}
_LOHA = (_HADA, _HADA | {"hada_t1", "hada_t2"})
_LOKR = tuple(
    first | second
    for first in ({"lokr_w1"}, {"lokr_w1_a", "lokr_w1_b"})
    for second in ({"lokr_w2"}, {"lokr_w2_a", "lokr_w2_b"}, {"lokr_w2_a", "lokr_w2_b", "lokr_t2"})
)
_MAGNITUDES = {"dora_scale", "magnitude_vector"}

Shape = list[int]


@dataclass(frozen=True)
class Change:
    """The keys of a layer's tensors by kind, the size of the weight, and the factor.

    Attributes:
        rows: of the weight.
        values: the count of the weight's numbers.
        channels: the count of input channels, if DoRA's lengths are those of the input.
    """

    keys: Mapping[str, str]
    rows: int
    values: int
    scale: float
    channels: int | None = None


class LoraFile:
    """One file; only names and sizes are read until `tensors` is called.

    Raises:
        LoraUnusable: if it is no LoRA, or of a kind that is not supported.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not is_utf8(str(path)):
            raise LoraUnusable("its path is not UTF-8, which safetensors requires; rename it")
        if not path.is_file():  # a link without a file, or a pipe, which would never end
            raise LoraUnusable("its file cannot be read")
        try:
            # The header has the shapes and alphas are scalars, so this reads little of the file.
            with safe_open(path, "pt") as file:
                slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
                self._shapes = {key: list(each.get_shape()) for key, each in slices.items()}
                types = {key: each.get_dtype() for key, each in slices.items()}
                alphas = {
                    key: file.get_tensor(key)
                    for key, shape in self._shapes.items()
                    if key.endswith(".alpha") and math.prod(shape) == 1
                }
                config = PeftConfig(file.metadata())
        except (OSError, SafetensorError, ValueError, RuntimeError) as error:
            raise LoraUnusable(_what_it_is(path)) from error
        self._alphas = {key: _alpha(key, value) for key, value in alphas.items()}
        self.changes = {
            target: self._change(target, of_target, config)
            for target, of_target in self._targets(types).items()
        }

    def tensors(self) -> dict[Target, Formula]:
        """Read the tensors.

        Raises:
            LoraUnusable: if a value is infinite or not a number, or the file has changed.
        """
        try:
            with safe_open(self.path, "pt") as file:
                return {
                    target: _formula(change, lambda key: _finite(key, file.get_tensor(key)))
                    for target, change in self.changes.items()
                }
        except (OSError, SafetensorError) as error:
            raise LoraUnusable("its file can no longer be read") from error

    def _targets(self, types: Mapping[str, str]) -> dict[Target, dict[str, tuple[str, Key]]]:
        targets: dict[Target, dict[str, tuple[str, Key]]] = {}
        for key, type_ in types.items():
            meaning = keys.read(key)
            of_target = targets.setdefault(meaning.target, {})
            if meaning.kind in of_target:
                raise LoraUnusable(f"it has {meaning.target} twice")
            if meaning.kind != "alpha" and type_ not in _TYPES:
                raise LoraUnusable(f"{key[:80]} has numbers of type {type_}")
            of_target[meaning.kind] = key, meaning
        if not targets:
            raise LoraUnusable("it is empty")
        return targets

    def _change(
        self, target: Target, of_target: Mapping[str, tuple[str, Key]], config: PeftConfig
    ) -> Change:
        named = {kind: key for kind, (key, _) in of_target.items()}
        shapes = {kind: self._shapes[key] for kind, key in named.items()}
        if any(0 in shape for shape in shapes.values()):
            raise LoraUnusable(f"{target} has a tensor without numbers")
        rows, values, rank = _size(target, shapes)
        alpha = self._alphas.get(named.get("alpha", ""))
        layer = next(meaning.layer for _, meaning in of_target.values())
        if "alpha" in named and alpha is None:
            raise LoraUnusable(f"the alpha of {target} is not one number")
        # Difference of the weight's own size, and products of two whole matrices, have no rank.
        if "diff" in shapes or (rank is None and alpha is not None):
            scale = 1.0
        elif alpha is not None and rank is not None:
            scale = alpha / rank
        else:
            scale = config.scale(target.part, layer, rank)
        return Change(named, rows, values, scale, _channels(target, shapes, rows, values))


def _what_it_is(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except OSError:
        return "its file cannot be read"
    if start == _POINTER:
        return "it is a pointer of Git LFS; download the file itself with git lfs pull"
    return "it is not a LoRA in a safetensors file"


def _alpha(key: str, value: torch.Tensor) -> float:
    number = math.nan if value.is_complex() else float(value)
    if not math.isfinite(number):
        raise LoraUnusable(f"{key[:80]} is not a finite number")
    return number


def _finite(key: str, tensor: torch.Tensor) -> torch.Tensor:
    # 8-bit numbers have no `isfinite`.
    if not bool(torch.isfinite(tensor.float() if tensor.itemsize == 1 else tensor).all()):
        raise LoraUnusable(f"{key[:80]} has values that are infinite or not a number")
    return tensor


# --- Sizes ----------------------------------------------------------------------------------------


def _size(target: Target, shapes: Mapping[str, Shape]) -> tuple[int, int, int | None]:
    """Return rows and numbers of the weight, and the rank of the change if it has one."""
    kinds = set(shapes) - {"alpha"} - _MAGNITUDES
    if kinds == {"diff"}:
        shape = shapes["diff"] or [1]
        return shape[0], math.prod(shape), None
    if kinds in _LORA:
        return _size_of_lora(target, shapes)
    if kinds in _LOHA:
        first, second = (
            _size_of_product(target, shapes, f"hada_w{number}", f"hada_t{number}")
            for number in (1, 2)
        )
        if first[:2] != second[:2]:
            raise LoraUnusable(f"the two halves of {target} have different sizes")
        return first
    if kinds in _LOKR:
        first, second = (
            _size_of_product(target, shapes, f"lokr_w{number}", f"lokr_t{number}")
            for number in (1, 2)
        )
        rank = second[2] if second[2] is not None else first[2]
        return first[0] * second[0], first[1] * second[1], rank
    if kinds <= {"down", "up", "mid"}:
        raise LoraUnusable(f"it has only one half of {target}")
    raise LoraUnusable(f"it has only a part of {target}: {', '.join(sorted(kinds))}"[:180])


def _size_of_lora(target: Target, shapes: Mapping[str, Shape]) -> tuple[int, int, int]:
    down, up, middle = shapes["down"], shapes["up"], shapes.get("mid")
    if len(down) < 2 or len(up) < 2 or (middle is not None and len(middle) < 3):
        raise LoraUnusable(f"the two halves of {target} do not multiply")
    ends = (down[0], down[0]) if middle is None else (middle[0], middle[1])
    if up[1] != ends[0] or down[0] != ends[1]:
        raise LoraUnusable(f"the two halves of {target} do not multiply")
    # A convolution's kernel is in its down tensor, or in the one in the middle.
    flat = [*up[2:], *(down[2:] if middle is not None else [])]
    if any(side != 1 for side in flat):
        raise LoraUnusable(f"{target} is no LoRA layer")
    kernel = math.prod(middle[2:]) if middle is not None else 1
    return up[0], up[0] * math.prod(down[1:]) * kernel, down[0]


def _size_of_product(
    target: Target, shapes: Mapping[str, Shape], name: str, core: str
) -> tuple[int, int, int | None]:
    """Return the size of a matrix that is whole, or a product, or one with a core (Tucker)."""
    whole = shapes.get(name)
    if whole is not None:
        if len(whole) < 2:
            raise LoraUnusable(f"{name} of {target} is not a matrix")
        return whole[0], math.prod(whole), None
    a, b, middle = shapes[f"{name}_a"], shapes[f"{name}_b"], shapes.get(core)
    if len(a) != 2 or len(b) < 2 or (middle is not None and (len(middle) < 3 or len(b) != 2)):
        raise LoraUnusable(f"{name}_a and {name}_b of {target} do not multiply")
    rows, inner = (a[1], a[0]) if middle is not None else (a[0], a[1])
    if (inner, b[0]) != ((b[0], b[0]) if middle is None else (middle[0], middle[1])):
        raise LoraUnusable(f"{name}_a and {name}_b of {target} do not multiply")
    kernel = math.prod(middle[2:]) if middle is not None else 1
    return rows, rows * math.prod(b[1:]) * kernel, b[0]


def _channels(target: Target, shapes: Mapping[str, Shape], rows: int, values: int) -> int | None:
    """Return how many input channels have a length in a DoRA; None if the rows have one each."""
    found = _MAGNITUDES & set(shapes)
    if not found:
        return None
    kind = found.pop()
    shape, lengths = shapes[kind], math.prod(shapes[kind])
    if found or "diff" in shapes or lengths != max(shape, default=1):
        raise LoraUnusable(f"the magnitude of {target} has another size")
    # peft measures rows. LyCORIS wrote the lengths as a row, one for each input channel, until it
    # wrote them as a column, one for each row of the weight.
    by_row = kind == "magnitude_vector" or len(shape) < 2 or shape[0] == lengths
    if by_row and lengths == rows:
        return None
    if by_row or (values // rows) % lengths:
        raise LoraUnusable(f"the magnitude of {target} has another size")
    return lengths


# --- Tensors --------------------------------------------------------------------------------------


def _formula(change: Change, read_tensor: Callable[[str], torch.Tensor]) -> Formula:
    def read(kind: str) -> torch.Tensor:
        return read_tensor(change.keys[kind])

    def product(name: str, core: str) -> Factors:
        if name in change.keys:
            return (read(name).flatten(1),)
        a, b = read(f"{name}_a"), read(f"{name}_b").flatten(1)
        return (a.T, _with_core(read(core), b)) if core in change.keys else (a, b)

    formula: Formula
    if "diff" in change.keys:
        return Whole(read("diff").reshape(change.rows, -1))
    if "down" in change.keys:
        down, up = read("down").flatten(1), read("up").flatten(1)
        if "mid" in change.keys:
            down = _with_core(read("mid"), down)
        formula = LowRank(down, up.float() * change.scale)
    else:
        method, name = (Hadamard, "hada") if "hada_w1_a" in change.keys else (Kronecker, "lokr")
        first, second = (product(f"{name}_w{each}", f"{name}_t{each}") for each in (1, 2))
        formula = method(first, second, change.scale)
    for kind in _MAGNITUDES & set(change.keys):
        formula = Decomposed(formula, read(kind), by_input=change.channels is not None)
    return formula


def _with_core(core: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the core of a Tucker decomposition times its right factor, as a matrix."""
    return torch.einsum("ij...,jn->in...", core.float(), right.float()).flatten(1)


# --- Files ----------------------------------------------------------------------------------------


def find_files(folders: list[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the adapters' names and files, in the folders and in their subfolders.

    A name is the file's own name if it is fit for a request, or is made of that alone: another file
    never changes it. Of two files with one name, the first one has it, and the log says so. Hidden
    files and folders do not count: macOS and download tools create them.
    """
    taken: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(_files(folder), key=lambda path: _order(folder, path)):
            name = Name.of(path.name[: -len(_ENDING)])
            if name in taken:
                if path.samefile(taken[name]):  # two of the folders overlap
                    continue
                error = f"its name {name} is that of {taken[name].name}; rename one of them"
                log.event("lora_unusable", lora=name, path=path, error=error)
                continue
            taken[name] = path
            yield name, path


def _files(folder: Path) -> Iterator[Path]:
    for parent, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(_ENDING) and not name.startswith("."):
                yield Path(parent, name)


def _order(folder: Path, path: Path) -> tuple[int, bool, str]:
    """Files in the folder itself come first, and those with the usual ending."""
    within = path.relative_to(folder)
    return len(within.parts), path.suffix != _ENDING, str(within)
