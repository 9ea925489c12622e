"""A UNet's weights in 8 bits, which take half the memory of 16; it computes in 16 as before.

Each layer converts its weights on the way into its arithmetic. diffusers can do that, too
(`enable_layerwise_casting`), but replaces the weights before each layer and puts them back behind
it, at which torch.compile breaks off at every layer.

What is rounded are the weights of linear and convolution layers, but for the first and the last:
pipelines take the type that a UNet computes in from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from easel.lora.weights import weight_of

_KEPT = {"conv_in", "conv_out"}


class _Linear(nn.Linear):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return functional.linear(given, self.weight.to(given.dtype), self.bias)


class _Conv2d(nn.Conv2d):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self._conv_forward(given, self.weight.to(given.dtype), self.bias)
        return found


_STORING: dict[type, Any] = {nn.Linear: _Linear, nn.Conv2d: _Conv2d}


class Fp8Storage:
    """How the weights of some pipelines' UNets are stored."""

    def __init__(self, pipelines: Sequence[Any]) -> None:
        self._pipelines = pipelines
        self._stored: list[tuple[nn.Module, torch.dtype]] = []

    @property
    def active(self) -> bool:
        """Whether any weights are in 8 bits."""
        return bool(self._stored)

    def start(self) -> str:
        """Convert the weights to 8 bits; return what was done, or why nothing was."""
        layers = dict.fromkeys(layer for each in self._pipelines for layer in _layers(each))
        if not layers:
            return "off: the model has no UNet"
        try:
            kind = torch.float8_e4m3fn
            weight_of(next(iter(layers)))[:1].to(kind).to(torch.float32)
        except (AttributeError, RuntimeError, TypeError) as error:
            return f"off: {type(error).__name__}: {str(error)[:300]}"
        for layer in layers:
            self._stored.append((layer, weight_of(layer).dtype))
            _convert(layer, _STORING[type(layer)], kind)
        return "fp8"

    def stop(self) -> None:
        """Compute with plain layers again. What the weights lost by rounding stays lost."""
        for layer, dtype in self._stored:
            _convert(layer, type(layer).__mro__[1], dtype)
        self._stored = []


def _layers(pipeline: Any) -> Iterator[nn.Module]:
    """Yield the layers of a pipeline's UNet that may be stored in 8 bits."""
    unet = getattr(pipeline, "unet", None)
    if isinstance(unet, nn.Module):
        for name, layer in unet.named_modules():
            if type(layer) in _STORING and name not in _KEPT:
                yield layer


def _convert(layer: nn.Module, kind: type, dtype: torch.dtype) -> None:
    weight = weight_of(layer)
    weight.data = weight.data.to(dtype)
    layer.__class__ = kind
