"""Draw a sheet of samples.

    python -m model_package.demo.sample_sheet sheet.png

uses the exported weights. The UNet's training draws a sheet at every checkpoint, decoded by the
codec, because there may be no trained decoder yet.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel

from model_package.demo.data.codec import Codec
from model_package.demo.pipeline import GUIDANCE_SCALE, STEPS, assemble
from model_package.demo.pool import CODEC_FILE
from model_package.demo.tokens import load_tokenizer
from model_package.demo.train_decoder import new_autoencoder
from model_package.demo.work_dir import PICTURE_SIZE, WEIGHTS, use_threads

# Settings
SHEET_PROMPTS = (
    "a red apple",
    "a cat",
    "a rocket",
    "a photo of an astronaut",
    "a horse",
    "a blue car",
    "a green apple",
    "a purple cat",
    "a dog on a blue background",
    "a house in the snow",
    "a rocket in space",
    "an astronaut riding a horse",
    "a cat and a dog",
    "a banana, highly detailed, 4k",
    "a red dragon at sunset",
    "a slice of pizza",
    "a yellow rose on a black background",
    "a penguin on grass",
    "a robot in the city",
    "a castle",
)
SEEDS = (1, 2)
COLUMNS = 10

Pixels = Tensor  # (3, height, width) in -1..1


def generators(count: int, seed: int) -> list[torch.Generator]:
    """Return a generator for each image, so that an image does not depend on its batch."""
    return [torch.Generator().manual_seed(seed) for _ in range(count)]


@torch.no_grad()
def draw_latents(
    unet: UNet2DConditionModel, encoder: CLIPTextModel, prompts: Sequence[str]
) -> Tensor:
    """Return latents for each prompt and seed, prompts first; needs no trained decoder."""
    pipeline = assemble(unet, encoder, load_tokenizer(), new_autoencoder().to(unet.device))
    drawn = [
        pipeline(
            list(prompts),
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE_SCALE,
            generator=generators(len(prompts), seed),
            output_type="latent",
        ).images
        for seed in SEEDS
    ]
    return torch.cat(drawn).float().cpu()


def save_sheet(latents: Tensor, path: Path) -> None:
    """Write a sheet of latents, decoded by the codec."""
    pictures = [to_image(picture) for picture in Codec.load(CODEC_FILE).decode(latents)]
    path.parent.mkdir(parents=True, exist_ok=True)
    lay_out(pictures, len(pictures) // len(SEEDS)).save(path)


def to_image(pixels: Pixels) -> Image.Image:
    """Return an image of pixels in -1..1."""
    levels = (pixels.movedim(0, -1) * 127.5 + 127.5).round().clamp(0, 255)
    return Image.fromarray(levels.byte().numpy())


def lay_out(pictures: Sequence[Image.Image], prompts: int) -> Image.Image:
    """Return a sheet with the seeds of a prompt below each other; images are prompts first."""
    columns = min(COLUMNS, prompts)
    seeds = len(pictures) // prompts
    lines = -(-prompts // columns) * seeds
    side = PICTURE_SIZE
    sheet = Image.new("RGB", (columns * side, lines * side), "white")
    for index, picture in enumerate(pictures):
        seed, prompt = divmod(index, prompts)
        line = prompt // columns * seeds + seed
        sheet.paste(picture, (prompt % columns * side, line * side))
    return sheet


def main() -> None:
    """Draw the prompts with the exported model."""
    use_threads(2)
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS)
    pipeline.set_progress_bar_config(disable=True)
    drawn: list[Image.Image] = []
    for seed in SEEDS:
        drawn += pipeline(
            list(SHEET_PROMPTS),
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE_SCALE,
            generator=generators(len(SHEET_PROMPTS), seed),
        ).images
    lay_out(drawn, len(SHEET_PROMPTS)).save(sys.argv[1])


if __name__ == "__main__":
    main()
