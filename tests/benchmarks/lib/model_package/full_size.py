"""Pipelines of the size of the published models, with random weights, created on the device.

Nothing is downloaded. The images are noise, but take the same time and memory: the numbers of
weights are exactly those of the released models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from model_package.stand_in import byte_tokenizer

_ATTENDS, _PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
_ATTENDS_UP, _PLAIN_UP = "CrossAttnUpBlock2D", "UpBlock2D"
_SD = {
    "sample_size": 64,
    "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (_ATTENDS, _ATTENDS, _ATTENDS, _PLAIN),
    "up_block_types": (_PLAIN_UP, _ATTENDS_UP, _ATTENDS_UP, _ATTENDS_UP),
}
_SD15 = {**_SD, "cross_attention_dim": 768, "attention_head_dim": 8}
_SD21 = {
    **_SD,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
_XL = {
    "sample_size": 128,
    "layers_per_block": 2,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
}
_SDXL = {
    **_XL,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": (_PLAIN, _ATTENDS, _ATTENDS),
    "up_block_types": (_ATTENDS_UP, _ATTENDS_UP, _PLAIN_UP),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "projection_class_embeddings_input_dim": 2816,
}
_REFINER = {
    **_XL,
    "block_out_channels": (384, 768, 1536, 1536),
    "down_block_types": (_PLAIN, _ATTENDS, _ATTENDS, _PLAIN),
    "up_block_types": (_PLAIN_UP, _ATTENDS_UP, _ATTENDS_UP, _PLAIN_UP),
    "transformer_layers_per_block": 4,
    "attention_head_dim": (6, 12, 24, 24),
    "cross_attention_dim": 1280,
    "projection_class_embeddings_input_dim": 2560,
}
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "projection_dim": 768}
_CLIP_L |= {"num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "projection_dim": 512}
_CLIP_H |= {"num_hidden_layers": 23, "num_attention_heads": 16}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "projection_dim": 1280}
_CLIP_G |= {"num_hidden_layers": 32, "num_attention_heads": 20}
_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_NOISE |= {"steps_offset": 1}


@dataclass(frozen=True)
class ModelSpec:
    """A published model: how to make it, and what its makers recommend to ask it for."""

    make: Callable[[], list[Any]]
    steps: int
    guidance_scale: float
    side: int
    weights: dict[str, int] = field(default_factory=dict)


def make(kind: ModelSpec, dtype: torch.dtype, device: torch.device) -> list[Any]:
    """Return the pipeline, and the refiner's if there is one; the same weights each time."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            pipelines = kind.make()
    finally:
        torch.set_default_dtype(before)
    for pipeline in pipelines:
        pipeline.set_progress_bar_config(disable=True)
        pipeline.to(device)
    return pipelines


def unshare(pipelines: Sequence[Any]) -> None:
    """Give a refiner its own copies of what it shares with its base, as if loaded by itself."""
    _, refiner = pipelines
    for name in ("text_encoder_2", "vae"):
        setattr(refiner, name, deepcopy(getattr(refiner, name)))


def _vae(*, side: int, scaling: float, upcast: bool = False) -> Any:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=side,
        scaling_factor=scaling,
        force_upcast=upcast,
    ).eval()


def _text(kind: Any, activation: str, sizes: dict[str, int]) -> Any:
    marks = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    return kind(CLIPTextConfig(vocab_size=49408, hidden_act=activation, **sizes, **marks)).eval()


def _scheduler(kind: Any, **options: Any) -> Any:
    """Return a scheduler as loading makes it: on the CPU, in 32 bits."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            return kind(**_NOISE, **options)
    finally:
        torch.set_default_dtype(before)


def _sd(unet: dict[str, Any], sizes: dict[str, int], scheduler: Any) -> list[Any]:
    activation = "quick_gelu" if sizes is _CLIP_L else "gelu"
    pipeline = StableDiffusionPipeline(
        vae=_vae(side=512, scaling=0.18215),
        text_encoder=_text(CLIPTextModel, activation, sizes),
        tokenizer=byte_tokenizer("<|endoftext|>"),
        unet=UNet2DConditionModel(**unet).eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return [pipeline]


def _sd15() -> list[Any]:
    return _sd(_SD15, _CLIP_L, _scheduler(PNDMScheduler, skip_prk_steps=True))


def _sd_turbo() -> list[Any]:
    return _sd(_SD21, _CLIP_H, _scheduler(EulerDiscreteScheduler, timestep_spacing="trailing"))


def _sdxl() -> list[Any]:
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(side=1024, scaling=0.13025, upcast=True),
        text_encoder=_text(CLIPTextModel, "quick_gelu", _CLIP_L),
        text_encoder_2=_text(CLIPTextModelWithProjection, "gelu", _CLIP_G),
        tokenizer=byte_tokenizer("<|endoftext|>"),
        tokenizer_2=byte_tokenizer("!"),
        unet=UNet2DConditionModel(**_SDXL).eval(),
        scheduler=_scheduler(EulerDiscreteScheduler, timestep_spacing="leading"),
        add_watermarker=False,
    )
    return [pipeline]


def _with_refiner() -> list[Any]:
    (base,) = _sdxl()
    refiner = StableDiffusionXLImg2ImgPipeline(
        vae=base.vae,
        text_encoder=None,
        text_encoder_2=base.text_encoder_2,
        tokenizer=None,
        tokenizer_2=base.tokenizer_2,
        unet=UNet2DConditionModel(**_REFINER).eval(),
        scheduler=_scheduler(EulerDiscreteScheduler, timestep_spacing="leading"),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    return [base, refiner]


# SDXL takes as many steps as in MLPerf Inference, and with its refiner as many as in diffusers'
# guide: what others publish is for those.
MODELS = {
    "sd": ModelSpec(_sd15, 25, 7.5, 512, {"unet": 859_520_964, "vae": 83_653_863}),
    "sd-turbo": ModelSpec(_sd_turbo, 1, 0.0, 512, {"unet": 865_910_724}),
    "sdxl": ModelSpec(_sdxl, 20, 5.0, 1024, {"unet": 2_567_463_684}),
    "sdxl-refiner": ModelSpec(_with_refiner, 40, 5.0, 1024, {"unet": 2_567_463_684}),
}
