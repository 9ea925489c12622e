"""Closed-form latents: what the UNet paints, known before any network exists.

A learnt autoencoder is the dearest part of such a model on a CPU. Instead the picture is halved to
64 x 64, cut into 4 x 4 patches, and each patch's 48 numbers are projected onto their 8 principal
components: an 8 x 16 x 16 latent. The autoencoder that ships with the model is trained afterwards
to decode these (`train_decoder.py`).
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
    scale: Tensor  # (8,), what a component is multiplied by

    @classmethod
    def fit(cls, pictures: Tensor) -> "Codec":
        """Find the components from a few thousand pictures (N, 3, 128, 128) in -1..1."""
        patches = to_patches(pictures).movedim(1, -1).reshape(-1, 3 * PATCH * PATCH).double()
        mean = patches.mean(0)
        _, basis = torch.linalg.eigh(torch.cov((patches - mean).T))
        basis = basis.flip(1)[:, :CHANNELS]
        spread = ((patches - mean) @ basis).std(0)
        # Not whitened fully: the first components matter more to the eye, so they stay larger.
        scale = spread.rsqrt()
        scale = scale / (spread * scale).square().mean().sqrt()
        return cls(mean.float(), basis.float(), scale.float())

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures (N, 3, 128, 128) in -1..1 to latents (N, 8, 16, 16)."""
        centred = to_patches(pictures).movedim(1, -1) - self.mean
        return ((centred @ self.basis) * self.scale).movedim(-1, 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents back to blurred pictures: a look at them while there is no decoder."""
        patches = (latents.movedim(1, -1) / self.scale) @ self.basis.T + self.mean
        small = pixel_shuffle(patches.movedim(-1, 1), PATCH)
        return interpolate(small, scale_factor=POOL, mode="bilinear").clamp(-1, 1)

    def save(self, path: Path) -> None:
        np.savez(path, mean=self.mean, basis=self.basis, scale=self.scale)

    @classmethod
    def load(cls, path: Path) -> "Codec":
        held = np.load(path)
        return cls(*(torch.from_numpy(held[name]) for name in ("mean", "basis", "scale")))


def to_patches(pictures: Tensor) -> Tensor:
    """Halve pictures and move each 4 x 4 patch into channels: (N, 48, 16, 16)."""
    return pixel_unshuffle(avg_pool2d(pictures, POOL), PATCH)
