"""Closed-form latents: the UNet's targets, without training an autoencoder first.

An autoencoder is the most expensive part of such a model to train on a CPU. Instead the image is
halved to 64 x 64 and cut into 4 x 4 patches, and each patch's 48 numbers are projected onto their 8
principal components: an 8 x 16 x 16 latent. The autoencoder that ships with the model is trained
separately to decode these (`train_decoder.py`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, pixel_unshuffle

from model_package.demo.work_dir import PICTURE_SIZE

CHANNELS = 8
PATCH = 4
POOL = 2
LATENT_SIZE = PICTURE_SIZE // (POOL * PATCH)


@dataclass(frozen=True)
class Codec:
    """A linear map between patches and latents, with about unit variance on the latent side."""

    mean: Tensor  # (48,)
    basis: Tensor  # (48, 8), orthonormal columns
    scale: Tensor  # (8,), the factor of each component

    @classmethod
    def fit(cls, pictures: Tensor) -> "Codec":
        """Compute the components from a few thousand images (N, 3, 128, 128) in -1..1."""
        patches = to_patches(pictures).movedim(1, -1).reshape(-1, 3 * PATCH * PATCH).double()
        mean = patches.mean(0)
        _, basis = torch.linalg.eigh(torch.cov((patches - mean).T))
        basis = basis.flip(1)[:, :CHANNELS]
        spread = ((patches - mean) @ basis).std(0)
        # Not fully whitened: the first components are more visible, so they stay larger.
        scale = spread.rsqrt()
        scale = scale / (spread * scale).square().mean().sqrt()
        return cls(mean.float(), basis.float(), scale.float())

    def encode(self, pictures: Tensor) -> Tensor:
        """Return the latents (N, 8, 16, 16) of images (N, 3, 128, 128) in -1..1."""
        centred = to_patches(pictures).movedim(1, -1) - self.mean
        return ((centred @ self.basis) * self.scale).movedim(-1, 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Return blurred images of latents, for use without a decoder."""
        patches = (latents.movedim(1, -1) / self.scale) @ self.basis.T + self.mean
        small = pixel_shuffle(patches.movedim(-1, 1), PATCH)
        return interpolate(small, scale_factor=POOL, mode="bilinear").clamp(-1, 1)

    def save(self, path: Path) -> None:
        np.savez(path, mean=self.mean, basis=self.basis, scale=self.scale)

    @classmethod
    def load(cls, path: Path) -> "Codec":
        arrays = np.load(path)
        return cls(*(torch.from_numpy(arrays[name]) for name in ("mean", "basis", "scale")))


def to_patches(pictures: Tensor) -> Tensor:
    """Halve images and move each 4 x 4 patch into channels: (N, 48, 16, 16)."""
    return pixel_unshuffle(avg_pool2d(pictures, POOL), PATCH)
