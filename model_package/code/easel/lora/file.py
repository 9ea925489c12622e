"""A LoRA file: the layers that it changes, and the tensors of each change.

Supported are safetensors files as diffusers, peft and kohya's scripts write them. A layer changes
by `alpha / rank * up @ down`; without an alpha in the file, alpha is the rank, as in those tools.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from easel.lora import layer_names

# Prefixes of names in files by kohya's scripts, and the part of the pipeline that they mean.
_KOHYA = {
    "lora_unet_": "unet",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te_": "text_encoder",
}
_PARTS = ("unet", "text_encoder_2", "text_encoder", "transformer")
_KINDS = {"A": "down", "B": "up", "down": "down", "up": "up"}
_TENSOR = re.compile(
    r"(?P<name>.+?)(?:[._]lora(?:_linear_layer)?[._](?P<kind>A|B|down|up)(?:\.default)?\.weight"
    r"|\.(?P<alpha>alpha))"
)
_METADATA = "lora_adapter_metadata"  # diffusers' key for peft's configuration


class LoraUnusable(Exception):
    """A file cannot be used; the text is the reason in a few words."""


@dataclass(frozen=True)
class Target:
    """A layer: a part of the pipeline, and the layer's name in it with underscores."""

    part: str
    name: str


@dataclass(frozen=True)
class Change:
    """The keys of a layer's tensors, the size of the weight, and the factor of their product."""

    down: str
    up: str
    rows: int
    values: int
    scale: float


class LoraFile:
    """One file; only names and sizes are read until `tensors` is called.

    Raises:
        LoraUnusable: if it is no LoRA, or of a kind that is not supported.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # The header has the shapes and alphas are scalars, so this reads little of the file.
            with safe_open(path, "pt") as file:
                shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
                alphas = {
                    key: float(file.get_tensor(key)) for key in shapes if key.endswith(".alpha")
                }
                metadata = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
        except (OSError, SafetensorError, ValueError, RuntimeError) as error:
            raise LoraUnusable("it is not a LoRA in a safetensors file") from error
        self.changes = _changes(shapes, alphas, metadata if isinstance(metadata, dict) else {})

    def tensors(self) -> dict[Target, tuple[torch.Tensor, torch.Tensor]]:
        """Return each layer's down and up tensors as matrices; up includes the factor."""
        with safe_open(self.path, "pt") as file:
            return {
                target: (
                    file.get_tensor(change.down).flatten(1),
                    file.get_tensor(change.up).flatten(1).float() * change.scale,
                )
                for target, change in self.changes.items()
            }


def _changes(
    shapes: Mapping[str, list[int]], alphas: Mapping[str, float], metadata: Mapping[str, Any]
) -> dict[Target, Change]:
    keys: dict[Target, dict[str, str]] = {}
    for key in shapes:
        target, kind = _read_key(key)
        keys.setdefault(target, {})[kind] = key
    if not keys:
        raise LoraUnusable("it is empty")
    return {
        target: _change(target, kinds, shapes, alphas, metadata) for target, kinds in keys.items()
    }


def _change(
    target: Target,
    keys: Mapping[str, str],
    shapes: Mapping[str, list[int]],
    alphas: Mapping[str, float],
    metadata: Mapping[str, Any],
) -> Change:
    if not {"down", "up"} <= set(keys):
        raise LoraUnusable(f"it has only one half of {target.part} {target.name}")
    down, up = shapes[keys["down"]], shapes[keys["up"]]
    if len(down) < 2 or len(up) < 2 or down[0] != up[1] or not down[0]:
        raise LoraUnusable(f"the two halves of {target.part} {target.name} do not multiply")
    # A convolution's down tensor has the kernel's sides; its up tensor is 1 x 1.
    rank, within = down[0], 1
    for size in down[1:]:
        within *= size
    if any(size != 1 for size in up[2:]):
        raise LoraUnusable(f"{target.part} {target.name} is no LoRA layer")
    alpha = alphas.get(keys.get("alpha", ""))
    scale = _configured_scale(target, rank, metadata) if alpha is None else alpha / rank
    return Change(keys["down"], keys["up"], up[0], up[0] * within, scale)


def _configured_scale(target: Target, rank: int, metadata: Mapping[str, Any]) -> float:
    """Return the factor from peft's configuration, which diffusers writes into the file."""
    config = {
        key.removeprefix(f"{target.part}."): value
        for key, value in metadata.items()
        if key.startswith(f"{target.part}.")
    }
    alpha = config.get("lora_alpha") or rank
    for pattern, own in (config.get("alpha_pattern") or {}).items():
        if target.name.endswith(layer_names.plain(pattern)):
            alpha = own
    # Rank-stabilised LoRA divides by the root of the rank (https://arxiv.org/abs/2312.03732).
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)


def _read_key(key: str) -> tuple[Target, str]:
    match = _TENSOR.fullmatch(key)
    if match is None:
        raise LoraUnusable(f"it contains {key[:80]}, which is not part of a plain LoRA")
    kind = "alpha" if match["alpha"] else _KINDS[match["kind"]]
    return _target(match["name"]), kind


def _target(name: str) -> Target:
    for prefix, part in _KOHYA.items():
        if name.startswith(prefix):
            return Target(part, layer_names.plain(name.removeprefix(prefix)))
    part = next((part for part in _PARTS if name.startswith(f"{part}.")), "unet")
    inner = name.removeprefix(f"{part}.").removeprefix("base_model.model.")
    inner = inner.replace(".processor.", ".")
    if inner.endswith("to_out"):  # diffusers' older files
        inner += ".0"
    return Target(part, layer_names.plain(inner))


def find_files(folders: list[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the adapters' names and files; a name is the file's stem, made safe for a URL."""
    seen: set[str] = set()
    for folder in folders:
        for path in sorted(folder.glob("*.safetensors")):
            # The alphabet and length of a name in a request.
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:63] or "lora"
            # Two files can have the same name after that, or be in two folders.
            number, unique = 2, name
            while unique in seen:
                unique, number = f"{name[:60]}-{number}", number + 1
            seen.add(unique)
            yield unique, path
