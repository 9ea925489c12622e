"""Store weights in 8 bits, in half the memory of 16; the model still computes in 16.

Each layer converts its weights when it computes. diffusers' `enable_layerwise_casting` does so too,
but replaces the weights before each layer and restores them after it, which breaks a compiled model
into one graph for each layer.

Two formats: `fp8` is torch's float8_e4m3fn, with 3 bits after the point for each number; `int8` has
7 bits and one scale for each output of a layer, so it is closer to the original.

Rounded are the weights of a UNet's linear and convolution layers except the first and the last, and
of a transformer's linear layers in its repeated blocks. Pipelines read the type to compute in from
the other ones, and they are few.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from easel.lora.weights import weight_of

FORMATS = ("fp8", "int8")
# A text encoder with more weights is stored in 8 bits as well: Qwen3's has four times as many,
# CLIP's largest 0.7.
LARGE = 10**9
_KEPT = {"conv_in", "conv_out"}
_REPEATED = re.compile(r"\.\d+\.")  # inside an item of a list of blocks
_TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


class _Fp8Linear(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight.to(x.dtype), self.bias)


class _Fp8Conv2d(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self._conv_forward(x, self.weight.to(x.dtype), self.bias)
        return output


class _Scaled:
    """A layer whose weight is whole numbers, times one scale for each output."""

    weight: nn.Parameter
    weight_scale: torch.Tensor

    def full_weight(self, dtype: torch.dtype) -> torch.Tensor:
        return self.weight.to(dtype) * self.weight_scale.to(dtype)

    def store_weight(self, values: torch.Tensor) -> None:
        """Round a whole weight to whole numbers and their scales."""
        rows = values.to(self.weight.device, torch.float32).flatten(1)
        largest = rows.abs().amax(dim=1, keepdim=True) / 127
        scale = largest.to(self.weight_scale.dtype)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        whole = (rows / scale.float()).round().clamp(-127, 127)
        self.weight.copy_(whole.view(self.weight.shape))
        self.weight_scale.copy_(scale.view(self.weight_scale.shape))


class _Int8Linear(_Scaled, nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.full_weight(x.dtype), self.bias)


class _Int8Conv2d(_Scaled, nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self._conv_forward(x, self.full_weight(x.dtype), self.bias)
        return output


_CLASSES: dict[str, dict[type, Any]] = {
    "fp8": {nn.Linear: _Fp8Linear, nn.Conv2d: _Fp8Conv2d},
    "int8": {nn.Linear: _Int8Linear, nn.Conv2d: _Int8Conv2d},
}
_PLAIN = {kind: plain for kinds in _CLASSES.values() for plain, kind in kinds.items()}


class EightBits:
    """Stores the weights of some layers in 8 bits, and can undo it.

    Args:
        layers: from `denoiser_layers` or `large_layers`.
        form: fp8 or int8.
    """

    def __init__(self, layers: Sequence[nn.Module], form: str = "fp8") -> None:
        self.layers = list(dict.fromkeys(layers))
        self._form = form
        self._stored: list[tuple[nn.Module, torch.dtype]] = []

    @property
    def active(self) -> bool:
        """Whether any weights are in 8 bits."""
        return bool(self._stored)

    def start(self, device: torch.device | None = None) -> None:
        """Convert the weights.

        Args:
            device: to move them to; one by one, so that it never holds the model in 16 bits.

        Raises:
            AttributeError: by a PyTorch without the format.
            RuntimeError: if the device does not convert it; no weight is changed.
            TypeError: likewise.
        """
        if self._form == "fp8" and self.layers:
            # Not every device converts 8-bit numbers: try it on one weight before changing any.
            sample = weight_of(self.layers[0])[:1].detach()
            sample.to(device or sample.device).to(torch.float8_e4m3fn).to(torch.float32)
        for layer in self.layers:  # in place, so that a LoRA's table of layers stays valid
            self._stored.append((layer, weight_of(layer).dtype))
            weight = weight_of(layer).data
            weight = weight.to(device or weight.device)
            layer.__class__ = _CLASSES[self._form][type(layer)]  # with another `forward`
            (_to_fp8 if self._form == "fp8" else _to_int8)(layer, weight)

    def stop(self) -> None:
        """Restore plain layers. The weights keep their rounded values."""
        for layer, dtype in self._stored:
            full = layer.full_weight(dtype) if isinstance(layer, _Scaled) else weight_of(layer)
            layer.__class__ = _PLAIN[type(layer)]
            layer._buffers.pop("weight_scale", None)
            layer.weight = nn.Parameter(full.detach().to(dtype), requires_grad=False)
        self._stored = []


def denoiser_layers(pipelines: Sequence[Any], *, transformers: bool = True) -> list[nn.Module]:
    """Return the layers of the pipelines' UNets and transformers that are stored in 8 bits."""
    names = ("unet", "transformer") if transformers else ("unet",)
    parts = (getattr(pipeline, name, None) for pipeline in pipelines for name in names)
    return [layer for part in parts if isinstance(part, nn.Module) for layer in _layers(part)]


def large_layers(pipelines: Sequence[Any]) -> list[nn.Module]:
    """Return those of the denoisers, and of the text encoders that are large language models."""
    parts = [getattr(pipeline, name, None) for pipeline in pipelines for name in _TEXT_ENCODERS]
    large = [part for part in parts if isinstance(part, nn.Module) and _count(part) > LARGE]
    return denoiser_layers(pipelines) + [layer for part in large for layer in _layers(part)]


def _layers(part: nn.Module) -> Iterator[nn.Module]:
    is_unet = hasattr(part, "conv_in")
    # What the libraries themselves keep in more bits, such as Z-Image's embedding of the time.
    precise = [
        *(getattr(part, "_skip_layerwise_casting_patterns", None) or ()),
        *(getattr(part, "_keep_in_fp32_modules", None) or ()),
    ]
    for name, layer in part.named_modules():
        if is_unet:
            chosen = type(layer) in _CLASSES["fp8"] and name not in _KEPT
        else:
            chosen = type(layer) is nn.Linear and bool(_REPEATED.search(name))
            chosen = chosen and not any(re.search(pattern, name) for pattern in precise)
        if chosen:
            yield layer


def _count(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def _to_fp8(layer: Any, weight: torch.Tensor) -> None:
    layer.weight = nn.Parameter(weight.to(torch.float8_e4m3fn), requires_grad=False)


def _to_int8(layer: Any, weight: torch.Tensor) -> None:
    scales = torch.empty(len(weight), *[1] * (weight.ndim - 1))
    layer.register_buffer("weight_scale", scales.to(weight.device, weight.dtype))
    layer.weight = nn.Parameter(torch.empty_like(weight, dtype=torch.int8), requires_grad=False)
    with torch.no_grad():
        layer.store_weight(weight)
