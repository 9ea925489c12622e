"""Change a model's weights in place, and restore them exactly.

A LoRA that is added to the weights costs no time during generation, and a compiled model stays
compiled. Restoring copies the original weights back: subtracting would add up the rounding errors
of 16-bit numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

_ROOM = 8 * 2**30  # bytes that generation may need; a GPU of 16 GB with SDXL has less left


@dataclass(frozen=True)
class Addition:
    """A term that is added to one layer's weight: `weight * up @ down`."""

    down: torch.Tensor
    up: torch.Tensor
    weight: float


class Weights:
    """The layers that were ever changed, with their original weights.

    An original is copied once, when its layer is first changed.
    """

    def __init__(self) -> None:
        self._originals: dict[nn.Module, torch.Tensor] = {}
        self._changed: set[nn.Module] = set()

    def keep(self, layers: Iterable[nn.Module]) -> None:
        """Copy layers' weights to the CPU's memory before they are stored in 8 bits.

        An addition is mostly smaller than the distance between two 8-bit numbers and would be lost
        in them. Added to the original, the sum is rounded once.
        """
        for layer in layers:
            self._originals[layer] = weight_of(layer).detach().to("cpu", copy=True)

    def change(self, additions: Mapping[nn.Module, Sequence[Addition]]) -> None:
        """Set each layer to its original weight plus its additions; restore all other layers."""
        with torch.no_grad():
            self._restore(self._changed - set(additions))
            for layer, terms in additions.items():
                self._changed.add(layer)
                self._add(layer, terms)

    def restore(self) -> None:
        """Restore the original weight of each layer."""
        with torch.no_grad():
            self._restore(self._changed)

    def _restore(self, layers: set[nn.Module]) -> None:
        for layer in list(layers):
            weight_of(layer).copy_(self._originals[layer])
            self._changed.discard(layer)

    def _add(self, layer: nn.Module, additions: Sequence[Addition]) -> None:
        weight = weight_of(layer)
        if layer not in self._originals:
            self._originals[layer] = weight.detach().to(_storage_device(weight), copy=True)
        # Not in fp16, where the small numbers of an adapter underflow, nor in 8 bits, which cannot
        # be computed with.
        dtype = torch.bfloat16 if weight.dtype == torch.bfloat16 else torch.float32
        # Adapters are concatenated to one of the sum of their ranks, so the sum is rounded once.
        up = torch.cat([term.up * term.weight for term in additions], dim=1)
        down = torch.cat([term.down for term in additions])
        up, down = up.to(weight.device, dtype), down.to(weight.device, dtype)
        original = self._originals[layer].to(weight.device, dtype).flatten(1)
        if dtype == weight.dtype and weight.is_contiguous():
            torch.addmm(original, up, down, out=weight.flatten(1))
        else:
            weight.copy_(torch.addmm(original, up, down).view(weight.shape))


def _storage_device(weight: torch.Tensor) -> torch.device:
    """Return where to keep an original: on the GPU if that leaves room for generation."""
    if weight.device.type == "cuda" and torch.cuda.mem_get_info(weight.device)[0] > _ROOM:
        return weight.device
    return torch.device("cpu")


def weight_of(layer: nn.Module) -> torch.Tensor:
    """Return a layer's weight, which can be changed in place."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)  # noqa: S101 - for the type checker: layers have one
    return weight
