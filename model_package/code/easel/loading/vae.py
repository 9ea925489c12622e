"""A VAE that neither overflows nor takes more memory than it must."""

from __future__ import annotations

from typing import Any

import torch

# Their VAEs do not overflow in fp16. A configuration that says nothing counts as `force_upcast`, by
# diffusers' default, so it must not be asked; diffusers does not ask it for these, either.
_SOUND = {"LatentConsistencyModelPipeline", "StableDiffusionPipeline"}
_AMPERE = (8, 0)  # the first NVIDIA GPUs that are made for bfloat16; a T4 is (7, 5)


def prepare(pipeline: Any, *, device: torch.device, tiling: bool) -> None:
    """Set up a loaded pipeline's VAE, if it has one.

    Slicing is always on: the VAE, not the UNet, sets the peak of a batch, and it does not matter to
    a single picture. Tiling leaves faint seams at times, so it is a setting; it acts only above the
    size that the VAE was made for.
    """
    vae = getattr(pipeline, "vae", None)
    if vae is None:
        return
    for wanted, name in ((True, "enable_slicing"), (tiling, "enable_tiling")):
        if wanted and hasattr(vae, name):
            getattr(vae, name)()
    safe = vae.dtype if type(pipeline).__name__ in _SOUND else safe_dtype(vae, device)
    if safe != vae.dtype:
        compute_in(vae, safe)


def safe_dtype(vae: Any, device: torch.device) -> torch.dtype:
    """Return the type in which the VAE does not overflow.

    SDXL's own VAE does in fp16, and says so by `force_upcast`. diffusers would then convert it to
    32 bits and back for each picture. In bf16 it needs no more memory than in fp16; where bf16 is
    slow, 32 bits are left, which take 3.0 GiB instead of 1.5 for 1024 x 1024 pixels. A VAE that was
    mended for fp16 does not say so, and stays as it is.
    """
    dtype: torch.dtype = vae.dtype
    if dtype != torch.float16 or not getattr(vae.config, "force_upcast", False):
        return dtype
    modern = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _AMPERE
    return torch.bfloat16 if modern else torch.float32


def compute_in(vae: Any, dtype: torch.dtype) -> None:
    """Convert the VAE, and its input on the way in: a pipeline's latents are of its own type."""
    vae.to(dtype)
    first = getattr(vae, "post_quant_conv", None)
    first = vae.decoder.conv_in if first is None else first
    first.register_forward_pre_hook(lambda _, inputs: tuple(each.to(dtype) for each in inputs))
