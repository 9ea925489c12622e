"""Train a LoRA for each style of `data/styles.py`, for requests such as `lora=pixel:0.8`.

    python -m model_package.demo.train_lora

Requires the trained UNet. A LoRA is a low-rank addition to the weights of attention and convolution
layers (Hu et al. 2021, https://arxiv.org/abs/2106.09685). The UNet itself does not change, and the
captions do not name the style.
"""

import os
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from model_package.demo.artwork import load_artwork
from model_package.demo.data.codec import Codec
from model_package.demo.data.compose import Composer, Spec
from model_package.demo.data.styles import STYLES, Style
from model_package.demo.pool import Pool, draw_pictures, load_codec
from model_package.demo.sample_sheet import SHEET_PROMPTS, draw_latents, save_sheet
from model_package.demo.train_unet import (
    ConditionedUNet,
    UNetObjective,
    load_conditioned_unet,
    set_up,
)
from model_package.demo.training.trainer import Plan, Trainer
from model_package.demo.work_dir import WORK_DIR, use_threads

# Settings
SECONDS = float(os.environ.get("EASEL_LORA_SECONDS", "480"))  # for each style
DRAWN_AT_ONCE, TIMES = 100, 60  # 6 000 images
RANK = 8
LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_in", "conv_out"]
PLAN = Plan(seconds=SECONDS, rate=2e-3, hold=0.3, average=0.995, checkpoint_seconds=120)

FOLDER = WORK_DIR / "loras"


def add_lora(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Add LoRA layers, at first without effect, and make only them trainable."""
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LAYERS))
    return unet


def draw_pool(style: Style, composer: Composer, codec: Codec) -> Pool:
    """Return images in one style, with their specs."""
    specs: list[Spec] = []
    latents: list[Tensor] = []
    for seed in range(TIMES):
        some, pictures = draw_pictures(composer, DRAWN_AT_ONCE, seed, style)
        specs += some
        latents.append(codec.encode(pictures).half())
    return Pool(specs, torch.cat(latents))


def new_trainer(name: str, base: ConditionedUNet) -> Trainer:
    """Return the trainer of one style, before its first step."""
    torch.manual_seed(0)
    base.encoder.requires_grad_(False)
    model = ConditionedUNet(base.encoder, add_lora(base.unet))
    model.trains_text = False
    return Trainer(set_up(model), PLAN, FOLDER / name)


def save_lora(unet: UNet2DConditionModel, path: Path) -> None:
    """Write the LoRA in diffusers' format, in half precision."""
    parts = get_peft_model_state_dict(unet).items()
    additions = {name: part.half().contiguous() for name, part in parts}
    StableDiffusionPipeline.save_lora_weights(
        path.parent, unet_lora_layers=additions, weight_name=path.name
    )


def show(name: str, model: ConditionedUNet) -> None:
    """Write a style's file and a sheet of samples."""
    save_lora(model.unet, FOLDER / f"{name}.safetensors")
    latents = draw_latents(model.unet, model.encoder, SHEET_PROMPTS)
    save_sheet(latents, FOLDER / f"{name}.png")


def main() -> None:
    """Train each style until the end of its plan; write its file and a sheet."""
    use_threads(1)
    composer = Composer(load_artwork())
    codec = load_codec(composer)
    for name, style in STYLES.items():
        trainer = new_trainer(name, load_conditioned_unet())
        trainer.resume()
        trainer.train(UNetObjective(draw_pool(style, composer, codec)))
        if isinstance(trainer.average, ConditionedUNet):
            show(name, trainer.average)


if __name__ == "__main__":
    main()
