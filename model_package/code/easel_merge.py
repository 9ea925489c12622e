"""Changing a model's weights in place and back, exactly.

A LoRA that is added to the weights costs nothing while a picture is painted, and a compiled model
stays compiled. Back means copying what was there before: subtracting again would leave the rounding
of 16-bit numbers behind, a little more each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Addition:
    """What is added to one layer's weight: `weight * up @ down`."""

    down: torch.Tensor
    up: torch.Tensor
    weight: float


class Weights:
    """The layers that were ever changed, with what they were before.

    The originals stay in main memory, so that they take none of the GPU's; they are copied there
    once, when a layer is first changed.
    """

    def __init__(self) -> None:
        self._originals: dict[nn.Module, torch.Tensor] = {}
        self._changed: set[nn.Module] = set()

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
            _weight(layer).copy_(self._originals[layer])
            self._changed.discard(layer)

    def _add(self, layer: nn.Module, additions: Sequence[Addition]) -> None:
        weight = _weight(layer)
        if layer not in self._originals:
            self._originals[layer] = weight.detach().to("cpu", copy=True)
        # In 32 bits, so that several additions round once.
        total = self._originals[layer].to(weight.device, torch.float32, copy=True)
        for each in additions:
            down, up = (part.to(weight.device, torch.float32) for part in (each.down, each.up))
            total += (up @ down).reshape(total.shape) * each.weight
        weight.copy_(total)


def _weight(layer: nn.Module) -> torch.Tensor:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)  # noqa: S101 - for the type checker: layers have one
    return weight
