"""Change a model's weights in place, and restore them exactly.

A LoRA that is added to the weights costs no time during generation, and a compiled model stays
compiled. Restoring copies the original weights back: subtracting would add up the rounding errors
of 16-bit numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from easel.lora.formulas import Formula

_ROOM = 8 * 2**30  # bytes that generation may need; a GPU of 16 GB with SDXL has less left


@dataclass(frozen=True)
class Addition:
    """A term that is added to one layer's weight: `weight * up @ down`."""

    down: torch.Tensor
    up: torch.Tensor
    weight: float


@dataclass(frozen=True)
class Computed:
    """A term that is added to one layer's weight, and computed from the original one."""

    formula: Formula
    weight: float


@dataclass(frozen=True)
class Bias:
    """A layer's bias in the place of a layer with a weight."""

    layer: nn.Module

    @property
    def weight(self) -> Any:
        return self.layer.bias


Layer = nn.Module | Bias


class TooLarge(Exception):
    """A sum is infinite, or not a number, in the type of the model's weights."""


class Weights:
    """The layers that were ever changed, with their original weights.

    An original is copied once, when its layer is first changed.
    """

    def __init__(self) -> None:
        self._originals: dict[Layer, torch.Tensor] = {}
        self._changed: set[Layer] = set()

    def keep(self, layers: Iterable[Layer]) -> None:
        """Copy layers' weights to the CPU's memory before they are stored in 8 bits.

        An addition is mostly smaller than the distance between two 8-bit numbers and would be lost
        in them. Added to the original, the sum is rounded once.
        """
        for layer in layers:
            self._originals[layer] = weight_of(layer).detach().to("cpu", copy=True)

    def change(self, additions: Mapping[Layer, Sequence[Addition | Computed]]) -> None:
        """Set each layer to its original weight plus its additions; restore all other layers.

        Raises:
            TooLarge: if a sum is not finite; some layers are changed then.
        """
        with torch.no_grad():
            self._restore(self._changed - set(additions))
            finite = []
            for layer, terms in additions.items():
                self._changed.add(layer)
                finite.append(self._add(layer, terms))
            if not _all(finite):
                raise TooLarge

    def restore(self) -> None:
        """Restore the original weight of each layer."""
        with torch.no_grad():
            self._restore(self._changed)

    def _restore(self, layers: set[Layer]) -> None:
        for layer in list(layers):
            _store(layer, self._originals[layer])
            self._changed.discard(layer)

    def _add(self, layer: Layer, terms: Sequence[Addition | Computed]) -> torch.Tensor:
        """Set a layer's weight; return whether all of it is finite, without waiting for the GPU."""
        weight = weight_of(layer)
        if layer not in self._originals:
            self._originals[layer] = weight.detach().to(_storage_device(weight), copy=True)
        computed = [term for term in terms if isinstance(term, Computed)]
        # Not in fp16, where the small numbers of an adapter underflow, nor in 8 bits, which cannot
        # be computed with.
        only_products = weight.dtype == torch.bfloat16 and not computed
        dtype = torch.bfloat16 if only_products else torch.float32
        original = _as_matrix(self._originals[layer].to(weight.device, dtype))
        changed = original
        for term in computed:
            changed = changed + term.formula.change(original) * term.weight
        products = [term for term in terms if isinstance(term, Addition)]
        if products:
            # Adapters are concatenated to one of the sum of their ranks, so the sum is rounded
            # once. Their types are made equal first: 8-bit types do not combine.
            up = torch.cat([(term.up * term.weight).to(dtype) for term in products], dim=1)
            down = torch.cat([term.down.to(dtype) for term in products])
            up, down = up.to(weight.device), down.to(weight.device)
            if dtype == weight.dtype and weight.is_contiguous():
                torch.addmm(changed, up, down, out=_as_matrix(weight))
                return torch.isfinite(weight).all()
            changed = torch.addmm(changed, up, down)
        _store(layer, changed.view(weight.shape))
        # 8-bit types have no `isfinite`, and store infinity as their largest number.
        return torch.isfinite(changed if weight.itemsize == 1 else weight).all()


def _store(layer: Layer, values: torch.Tensor) -> None:
    """Set a layer's weight; a layer that stores it in another form has a method for that."""
    store_weight = getattr(layer, "store_weight", None)
    if store_weight is None:
        weight_of(layer).copy_(values)
    else:
        store_weight(values)


def _as_matrix(weight: torch.Tensor) -> torch.Tensor:
    return weight.view(len(weight), -1) if weight.is_contiguous() else weight.flatten(1)


def _all(flags: Sequence[torch.Tensor]) -> bool:
    """Whether all are true, with one transfer for each device."""
    devices = {flag.device for flag in flags}
    on_each = [[flag for flag in flags if flag.device == device] for device in devices]
    return all(bool(torch.stack(group).all()) for group in on_each)


def _storage_device(weight: torch.Tensor) -> torch.device:
    """Return where to keep an original: on the GPU if that leaves room for generation."""
    if weight.device.type == "cuda" and torch.cuda.mem_get_info(weight.device)[0] > _ROOM:
        return weight.device
    return torch.device("cpu")


def weight_of(layer: Layer) -> torch.Tensor:
    """Return a layer's weight, which can be changed in place."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)  # noqa: S101 - for the type checker: layers have one
    return weight
