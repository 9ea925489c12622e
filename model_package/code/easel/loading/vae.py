"""Set up a VAE so that it does not overflow and needs little memory."""

from __future__ import annotations

from typing import Any

import torch

# The VAEs of these do not overflow in fp16. Their configurations cannot be relied on: diffusers'
# default for a missing `force_upcast` is True, and diffusers itself ignores it for these classes.
_FP16_SAFE = {"LatentConsistencyModelPipeline", "StableDiffusionPipeline"}
_AMPERE = (8, 0)  # the first NVIDIA GPUs with fast bfloat16; a T4 is (7, 5)


def prepare(pipeline: Any, *, device: torch.device, tiling: bool) -> None:
    """Set up a loaded pipeline's VAE, if it has one.

    Slicing is always on: it lowers the peak memory of a batch, which is in the VAE and not in the
    UNet, and changes nothing for a single image. Tiling can leave faint seams, so it is a setting;
    it has an effect only above the size that the VAE was trained for.
    """
    vae = getattr(pipeline, "vae", None)
    if vae is None:
        return
    for enabled, name in ((True, "enable_slicing"), (tiling, "enable_tiling")):
        if enabled and hasattr(vae, name):
            getattr(vae, name)()
    safe = vae.dtype if type(pipeline).__name__ in _FP16_SAFE else safe_dtype(vae, device)
    if safe != vae.dtype:
        compute_in(vae, safe)


def safe_dtype(vae: Any, device: torch.device) -> torch.dtype:
    """Return the type in which the VAE does not overflow.

    SDXL's own VAE overflows in fp16 and sets `force_upcast`, for which diffusers converts it to 32
    bits and back for each image. In bf16 it needs no more memory than in fp16. On GPUs with slow
    bf16 it runs in 32 bits, which take 3.0 GiB instead of 1.5 for 1024 x 1024 pixels. An fp16-fixed
    VAE does not set this flag and is not changed.
    """
    dtype: torch.dtype = vae.dtype
    if dtype != torch.float16 or not getattr(vae.config, "force_upcast", False):
        return dtype
    modern = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _AMPERE
    return torch.bfloat16 if modern else torch.float32


def compute_in(vae: Any, dtype: torch.dtype) -> None:
    """Convert the VAE, and each input: a pipeline's latents have the pipeline's type."""
    vae.to(dtype)
    first = getattr(vae, "post_quant_conv", None)  # some VAEs have none
    first = vae.decoder.conv_in if first is None else first
    first.register_forward_pre_hook(lambda _, inputs: tuple(one.to(dtype) for one in inputs))
