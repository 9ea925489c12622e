"""Small pictures of a run that has not ended: a linear map from latents to colours.

The map is fitted on the model's own VAE, once: coarse noise is decoded, and the mean colour of each
patch is explained by the patch's latents with least squares. diffusers' guide "Pipeline callbacks"
shows such a map for SDXL with fixed numbers (by T. A. Vass, "Explaining the SDXL latent space");
fitted ones also hold for Stable Diffusion, and for a VAE that somebody trained further.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_PATCHES = 8  # on each side of the picture that is decoded
_PATCH = 4  # latents on each side of a patch: the decoder also looks at a patch's surroundings


class Preview:
    """Previews of one model's latents; the map is fitted when the first one is wanted."""

    def __init__(self) -> None:
        self._map: torch.Tensor | None = None

    def of(self, pipeline: Any, latents: Any) -> NDArray[np.uint8] | None:
        """Return the first image of a batch of latents, with one pixel for each latent.

        Args:
            pipeline: that made them; its VAE decodes once.
            latents: shaped (images, channels, height, width); None is returned for others, and for
                a VAE that is compiled for one size.
        """
        vae = getattr(pipeline, "vae", None)
        channels = getattr(getattr(vae, "config", None), "latent_channels", None)
        if not isinstance(latents, torch.Tensor) or latents.ndim != 4:
            return None
        if getattr(pipeline, "static_size", None) is not None:
            return None
        if latents.shape[1] != channels:
            return None
        if self._map is None:
            self._map = _fit(vae, int(channels), latents)
        values = latents[0].detach().float().cpu()
        # Noise is still on top of it, and some schedulers scale it up.
        values = values / values.std().clamp(min=1)
        rgb = torch.einsum("chw,ci->hwi", values, self._map[:-1]) + self._map[-1]
        pixels: NDArray[np.uint8] = (
            (rgb.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        )
        return pixels


def _fit(vae: Any, channels: int, like: torch.Tensor) -> torch.Tensor:
    """Return the map from latents and a constant to red, green and blue, each in 0 to 1."""
    generator = torch.Generator("cpu").manual_seed(0)
    patches = torch.randn(1, channels, _PATCHES, _PATCHES, generator=generator)
    latents = torch.nn.functional.interpolate(patches, scale_factor=_PATCH, mode="nearest")
    scaled = latents / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", 0) or 0)
    with torch.no_grad():
        decoded = vae.decode(scaled.to(like.device, vae.dtype), return_dict=False)[0]
    colours = torch.nn.functional.adaptive_avg_pool2d(decoded.float().cpu(), _PATCHES) / 2 + 0.5
    known = torch.cat([patches[0].flatten(1).T, torch.ones(_PATCHES**2, 1)], dim=1)
    solution: torch.Tensor = torch.linalg.lstsq(known, colours[0].flatten(1).T).solution
    return solution
