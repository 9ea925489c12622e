"""How the tensors of an adapter change a weight, one class for each method.

A weight is a matrix here: a convolution's kernel is flattened. The formulas are those of peft and
LyCORIS. ComfyUI and AUTOMATIC1111's web UI use them as well, but ComfyUI divides DoRA's lengths of
rows by those of the original weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

_SMALLEST = torch.finfo(torch.float32).eps  # of the lengths that are divided by
# One matrix, or factors to be multiplied.
Factors = tuple[torch.Tensor, ...]


class Formula(Protocol):
    """A change of a weight; the tensors can be on another device, and in any floating type."""

    @property
    def tensors(self) -> Factors:
        """All tensors, to measure their memory."""

    def change(self, weight: torch.Tensor) -> torch.Tensor:
        """Return what is added to the weight, a matrix in 32 bits, for an adapter of weight 1."""


@dataclass(frozen=True)
class LowRank:
    """LoRA (https://arxiv.org/abs/2106.09685): `up @ down`; up includes the factor."""

    down: torch.Tensor
    up: torch.Tensor

    @property
    def tensors(self) -> Factors:
        return self.down, self.up

    def change(self, weight: torch.Tensor) -> torch.Tensor:
        return _product((self.up, self.down), weight)


@dataclass(frozen=True)
class Hadamard:
    """LoHa (https://arxiv.org/abs/2108.06098): two products, multiplied number by number."""

    first: Factors
    second: Factors
    scale: float

    @property
    def tensors(self) -> Factors:
        return self.first + self.second

    def change(self, weight: torch.Tensor) -> torch.Tensor:
        return _product(self.first, weight) * _product(self.second, weight) * self.scale


@dataclass(frozen=True)
class Kronecker:
    """LoKr (https://arxiv.org/abs/2309.14859): the Kronecker product of two matrices."""

    first: Factors
    second: Factors
    scale: float

    @property
    def tensors(self) -> Factors:
        return self.first + self.second

    def change(self, weight: torch.Tensor) -> torch.Tensor:
        return torch.kron(_product(self.first, weight) * self.scale, _product(self.second, weight))


@dataclass(frozen=True)
class Whole:
    """A difference of the size of the weight."""

    difference: torch.Tensor

    @property
    def tensors(self) -> Factors:
        return (self.difference,)

    def change(self, weight: torch.Tensor) -> torch.Tensor:
        return _product((self.difference,), weight)


@dataclass(frozen=True)
class Decomposed:
    """DoRA (https://arxiv.org/abs/2402.09353): the sum of weight and change gets a new length.

    Attributes:
        magnitude: the lengths, one for each row of the weight.
        by_input: the lengths are those of the input's channels instead, as in older files.
    """

    inner: Formula
    magnitude: torch.Tensor
    by_input: bool

    @property
    def tensors(self) -> Factors:
        return *self.inner.tensors, self.magnitude

    def change(self, weight: torch.Tensor) -> torch.Tensor:
        original = weight.float()
        changed = original + self.inner.change(weight)
        magnitude = self.magnitude.to(weight.device, torch.float32).flatten()
        # A length is of one row, or of all numbers that belong to one input channel.
        channels = len(magnitude) if self.by_input else 1
        rows = changed.view(len(changed), channels, -1)
        dims = (0, 2) if self.by_input else (1, 2)
        length = torch.linalg.vector_norm(rows, dim=dims, keepdim=True)
        factor = magnitude.view(length.shape) / length.clamp_min(_SMALLEST)
        result: torch.Tensor = (rows * factor).view_as(changed) - original
        return result


def _product(factors: Factors, weight: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = factors[0].to(weight.device, torch.float32)
    for other in factors[1:]:
        product = product.matmul(other.to(weight.device, torch.float32))
    return product
