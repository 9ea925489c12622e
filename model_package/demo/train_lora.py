"""Train a LoRA for each look of `styles.py`, for requests such as `lora=pixel:0.8`.

    python -m model_package.demo.train_lora

Needs the trained UNet. What is learnt is small additions of low rank to the UNet's attention and
convolutions (Hu et al. 2021, https://arxiv.org/abs/2106.09685); the UNet itself stays as it is, and
captions do not name the look.
"""

import os
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from model_package.demo.artwork import load_artwork
from model_package.demo.codec import Codec
from model_package.demo.compose import Composer, Spec
from model_package.demo.pool import Pool, draw_pictures, load_codec
from model_package.demo.sample_sheet import SHEET_PROMPTS, draw_latents, save_sheet
from model_package.demo.styles import STYLES, Style
from model_package.demo.train_unet import (
    ConditionedUNet,
    UNetObjective,
    load_conditioned_unet,
    set_up,
)
from model_package.demo.training import Plan, Trainer
from model_package.demo.work_dir import WORK_DIR, use_threads

# Knobs
SECONDS = float(os.environ.get("EASEL_LORA_SECONDS", "480"))  # for each look
DRAWN_AT_ONCE, TIMES = 100, 60  # 6 000 pictures
RANK = 8
LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_in", "conv_out"]
PLAN = Plan(seconds=SECONDS, rate=2e-3, hold=0.3, average=0.995, checkpoint_seconds=120)

FOLDER = WORK_DIR / "loras"


def add_lora(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Put additions that do nothing yet on a UNet, and let them alone be trained."""
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LAYERS))
    return unet


def draw_pool(look: Style, composer: Composer, codec: Codec) -> Pool:
    """Pictures in one look, with what is on them."""
    specs: list[Spec] = []
    latents: list[Tensor] = []
    for seed in range(TIMES):
        some, pictures = draw_pictures(composer, DRAWN_AT_ONCE, seed, look)
        specs += some
        latents.append(codec.encode(pictures).half())
    return Pool(specs, torch.cat(latents))


def new_trainer(name: str, base: ConditionedUNet) -> Trainer:
    """The trainer of one look, at its start."""
    torch.manual_seed(0)
    base.encoder.requires_grad_(False)
    student = ConditionedUNet(base.encoder, add_lora(base.unet))
    student.text_moves = False
    return Trainer(set_up(student), PLAN, FOLDER / name)


def save_lora(unet: UNet2DConditionModel, path: Path) -> None:
    """Write the additions as diffusers, and so the model package, reads them; half precision."""
    parts = get_peft_model_state_dict(unet).items()
    additions = {name: part.half().contiguous() for name, part in parts}
    StableDiffusionPipeline.save_lora_weights(
        path.parent, unet_lora_layers=additions, weight_name=path.name
    )


def show(name: str, model: ConditionedUNet) -> None:
    """Write a look's file, and beside it a sheet of samples."""
    save_lora(model.unet, FOLDER / f"{name}.safetensors")
    latents = draw_latents(model.unet, model.encoder, SHEET_PROMPTS)
    save_sheet(latents, FOLDER / f"{name}.png")


def main() -> None:
    """Train each look until the plan's time is used up; write its file and a sheet."""
    use_threads(1)
    composer = Composer(load_artwork())
    codec = load_codec(composer)
    for name, look in STYLES.items():
        trainer = new_trainer(name, load_conditioned_unet())
        trainer.resume()
        trainer.train(UNetObjective(draw_pool(look, composer, codec)))
        if isinstance(trainer.average, ConditionedUNet):
            show(name, trainer.average)


if __name__ == "__main__":
    main()
