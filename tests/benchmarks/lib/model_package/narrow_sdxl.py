"""A model folder with SDXL's UNet, narrowed, and tiny text encoders and VAE; random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from model_package.stand_in import make_stand_in


def make_model(folder: Path, width: int) -> Path:
    """Write a model with SDXL's UNet, narrowed; heads have 64 channels in any width."""
    make_stand_in(folder, kind="sdxl")
    widths = (width, 2 * width, 4 * width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet: Any = UNet2DConditionModel(
            sample_size=32,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=widths,
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=tuple(max(each // 64, 1) for each in widths),
            cross_attention_dim=64,  # as wide as the stand-in's text encoders
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 32,
        )
    unet.save_pretrained(folder / "unet")
    return folder
