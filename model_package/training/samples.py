"""Sample sheets: the same prompts with the same noise, as training goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, schedulers
from PIL import Image

from .base_model import BaseModel, Text
from .randomness import generator

_STEPS, _GUIDANCE = 25, 6.0  # where the model's easel.json says nothing


@dataclass(frozen=True)
class Settings:
    """How the endpoint generates with this model: `easel.json` next to it."""

    steps: int
    guidance_scale: float
    width: int
    height: int


def read_settings(base: BaseModel) -> Settings:
    """Return the model's own settings."""
    path = base.folder / "easel.json"
    if not path.is_file():
        path = base.folder.parent / "easel.json"  # of an ensemble, whose base is in a folder
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Settings(
            int(values.get("steps", _STEPS)),
            float(values.get("guidance_scale", _GUIDANCE)),
            int(values.get("width", base.resolution)),
            int(values.get("height", base.resolution)),
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return Settings(_STEPS, _GUIDANCE, base.resolution, base.resolution)


@torch.no_grad()
def draw_sheet(base: BaseModel, texts: Sequence[Text], empty: Text, seed: int, path: Path) -> None:
    """Draw a picture for each text and write them side by side."""
    settings = read_settings(base)
    pipeline = _pipeline(base)
    base.move_vae(base.device)
    pictures = []
    for number, text in enumerate(texts):
        latents = pipeline(
            **_embeddings(base, text, empty),
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            width=settings.width,
            height=settings.height,
            generator=generator(seed, number, "sample"),
            output_type="latent",
        ).images
        pictures.append(base.decode(latents[0]))
    base.move_vae("cpu")
    sheet = Image.new("RGB", (settings.width * len(pictures), settings.height))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number * settings.width, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".writing")
    try:
        sheet.save(unfinished, format="PNG")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _embeddings(base: BaseModel, text: Text, empty: Text) -> dict[str, Any]:
    def batch(tensor: Any) -> Any:
        return tensor[None].to(base.device, base.dtype)

    values = {
        "prompt_embeds": batch(text.tokens),
        "negative_prompt_embeds": batch(empty.tokens),
    }
    if base.is_xl:
        values["pooled_prompt_embeds"] = batch(text.pooled)
        values["negative_pooled_prompt_embeds"] = batch(empty.pooled)
    return values


def _pipeline(base: BaseModel) -> Any:
    """Return the pipeline without text encoders: all texts are encoded."""
    index = json.loads((base.folder / "model_index.json").read_text(encoding="utf-8"))
    scheduler = getattr(schedulers, index["scheduler"][1]).from_pretrained(
        base.folder, subfolder="scheduler"
    )
    parts: dict[str, Any] = {
        "vae": base.vae, "unet": base.unet, "scheduler": scheduler,
        "text_encoder": None, "tokenizer": None,
    }  # fmt: skip
    if base.is_xl:
        pipeline = StableDiffusionXLPipeline(
            **parts, text_encoder_2=None, tokenizer_2=None, add_watermarker=False
        )
    else:
        pipeline = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
