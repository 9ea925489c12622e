"""Store a UNet's weights in 8 bits, in half the memory of 16; it still computes in 16.

Each layer converts its weights when it computes. diffusers' `enable_layerwise_casting` does so too,
but replaces the weights before each layer and restores them after it, which breaks a compiled model
into one graph for each layer.

Rounded are the weights of all linear and convolution layers except the first and the last, from
which pipelines read the type that a UNet computes in.
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
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight.to(x.dtype), self.bias)


class _Conv2d(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self._conv_forward(x, self.weight.to(x.dtype), self.bias)
        return output


_FP8_CLASSES: dict[type, Any] = {nn.Linear: _Linear, nn.Conv2d: _Conv2d}


class Fp8Storage:
    """Stores the weights of pipelines' UNets in 8 bits, and can undo it."""

    def __init__(self, pipelines: Sequence[Any]) -> None:
        self._pipelines = pipelines
        self._stored: list[tuple[nn.Module, torch.dtype]] = []

    @property
    def active(self) -> bool:
        """Whether any weights are in 8 bits."""
        return bool(self._stored)

    def start(self) -> str:
        """Convert the weights to 8 bits; return `fp8`, or `off` with the reason."""
        layers = dict.fromkeys(layer for pipeline in self._pipelines for layer in _layers(pipeline))
        if not layers:
            return "off: the model has no UNet"
        try:
            fp8 = torch.float8_e4m3fn
            # Not every device converts 8-bit numbers: try it on one weight before changing any.
            weight_of(next(iter(layers)))[:1].to(fp8).to(torch.float32)
        except (AttributeError, RuntimeError, TypeError) as error:
            return f"off: {type(error).__name__}: {str(error)[:300]}"
        for layer in layers:  # in place, so that a LoRA's table of layers stays valid
            self._stored.append((layer, weight_of(layer).dtype))
            _convert(layer, _FP8_CLASSES[type(layer)], fp8)
        return "fp8"

    def stop(self) -> None:
        """Restore plain layers. The weights keep their rounded values."""
        for layer, dtype in self._stored:
            _convert(layer, type(layer).__mro__[1], dtype)
        self._stored = []


def _layers(pipeline: Any) -> Iterator[nn.Module]:
    """Yield the layers of a pipeline's UNet that are stored in 8 bits."""
    unet = getattr(pipeline, "unet", None)
    if isinstance(unet, nn.Module):
        for name, layer in unet.named_modules():
            if type(layer) in _FP8_CLASSES and name not in _KEPT:
                yield layer


def _convert(layer: nn.Module, kind: type, dtype: torch.dtype) -> None:
    weight = weight_of(layer)
    weight.data = weight.data.to(dtype)
    layer.__class__ = kind  # the same attributes with another `forward`
