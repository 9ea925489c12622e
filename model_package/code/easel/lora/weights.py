"""Changing a model's weights in place and back, exactly.

A LoRA that is added to the weights costs nothing while a picture is painted, and a compiled model
stays compiled. Back means copying what was there before: subtracting again would leave the rounding
of 16-bit numbers behind, a little more each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

_ROOM = 8 * 2**30  # bytes that painting may need; a GPU of 16 GB with SDXL keeps none of them


@dataclass(frozen=True)
class Addition:
    """What is added to one layer's weight: `weight * up @ down`."""

    down: torch.Tensor
    up: torch.Tensor
    weight: float


class Weights:
    """The layers that were ever changed, with what they were before.

    An original is copied once, when its layer is first changed.
    """

    def __init__(self) -> None:
        self._originals: dict[nn.Module, torch.Tensor] = {}
        self._changed: set[nn.Module] = set()

    def keep(self, layers: Iterable[nn.Module]) -> None:
        """Copy what layers are now, before their weights are stored in 8 bits.

        An addition is mostly smaller than the distance of two such numbers, and would be lost in
        them; a sum of the originals with it is rounded once. The copies go to the CPU's memory.
        """
        for layer in layers:
            self._originals[layer] = weight_of(layer).detach().to("cpu", copy=True)

    def change(self, additions: Mapping[nn.Module, Sequence[Addition]]) -> None:
        """Give each layer its original weight plus its additions, and all others their original."""
        with torch.no_grad():
            self._restore(self._changed - set(additions))
            for layer, each in additions.items():
                self._changed.add(layer)
                self._add(layer, each)

    def restore(self) -> None:
        """Give each layer its original weight."""
        with torch.no_grad():
            self._restore(self._changed)

    def _restore(self, layers: set[nn.Module]) -> None:
        for layer in list(layers):
            weight_of(layer).copy_(self._originals[layer])
            self._changed.discard(layer)

    def _add(self, layer: nn.Module, additions: Sequence[Addition]) -> None:
        weight = weight_of(layer)
        if layer not in self._originals:
            self._originals[layer] = weight.detach().to(_keeper(weight), copy=True)
        # Not in fp16: there the small numbers of an adapter would fade out. Nor in 8 bits, which
        # only store.
        dtype = torch.bfloat16 if weight.dtype == torch.bfloat16 else torch.float32
        # Several adapters are one of the sum of their ranks, so that the sum is rounded once.
        up = torch.cat([each.up * each.weight for each in additions], dim=1)
        down = torch.cat([each.down for each in additions])
        up, down = up.to(weight.device, dtype), down.to(weight.device, dtype)
        original = self._originals[layer].to(weight.device, dtype).flatten(1)
        if dtype == weight.dtype and weight.is_contiguous():
            torch.addmm(original, up, down, out=weight.flatten(1))
        else:
            weight.copy_(torch.addmm(original, up, down).view(weight.shape))


def _keeper(weight: torch.Tensor) -> torch.device:
    """Return where an original is kept: on the GPU as long as it has room to paint beside it."""
    if weight.device.type == "cuda" and torch.cuda.mem_get_info(weight.device)[0] > _ROOM:
        return weight.device
    return torch.device("cpu")


def weight_of(layer: nn.Module) -> torch.Tensor:
    """Return a layer's weight, which may be changed in place."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)  # noqa: S101 - for the type checker: layers have one
    return weight
