"""Start from the exported weights, to train a finished model further.

    EASEL_TRAINING=/an/empty/folder python -m model_package.demo.restart

fills an empty working folder with what every training starts from: the tokenizer, the codec, the
UNet, and for the text encoder and the autoencoder a checkpoint at step 0 with the exported weights.
All steps then continue from there, with plans that start from the beginning:

    python -m model_package.demo

An export does not include the optimizer's state, which the warm-up restores, and the heads of the
text encoder's pretraining, which are trained again. The codec must be the one that the weights were
trained with, because it defines the latents.
"""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from transformers import CLIPTextModel

from model_package.demo import tokens, train_decoder, train_text, train_unet
from model_package.demo.export import CODEC_NAME, PREFIX
from model_package.demo.pool import CODEC_FILE
from model_package.demo.train_text import TextModel, new_text_encoder
from model_package.demo.training.trainer import Plan, Trainer
from model_package.demo.work_dir import WEIGHTS


def read_text_encoder(weights: Path) -> CLIPTextModel:
    """Return the exported text encoder, set up for training as by `new_text_encoder`."""
    encoder = new_text_encoder()
    exported = load_file(weights / "text_encoder" / "model.safetensors")
    prefix = PREFIX if any(name.startswith(PREFIX) for name in encoder.state_dict()) else ""
    encoder.load_state_dict(
        {prefix + name.removeprefix(PREFIX): exported[name] for name in exported}
    )
    return encoder


def read_autoencoder(weights: Path) -> AutoencoderKL:
    """Return the exported autoencoder, in single precision."""
    autoencoder: AutoencoderKL = AutoencoderKL.from_pretrained(weights / "vae")
    return autoencoder.float()


def begin(module: torch.nn.Module, plan: Plan, folder: Path) -> None:
    """Write a checkpoint at step 0, unless the part has a checkpoint."""
    trainer = Trainer(module, plan, folder)
    if not trainer.resume():
        trainer.save()


def restart(weights: Path) -> None:
    """Fill the working folder from exported weights; keep existing files."""
    if not CODEC_FILE.exists():
        CODEC_FILE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(weights / CODEC_NAME, CODEC_FILE)
    if not tokens.FOLDER.exists():
        shutil.copytree(weights / "tokenizer", tokens.FOLDER)
    model = TextModel()
    model.encoder = read_text_encoder(weights)
    begin(model, train_text.PLAN, train_text.FOLDER)
    if not train_unet.START.exists():
        # Not a checkpoint: it would include the text encoder and undo its further pretraining.
        shutil.copytree(weights / "unet", train_unet.START)
    begin(read_autoencoder(weights), train_decoder.PLAN, train_decoder.FOLDER)


def main() -> None:
    """Start from the committed weights."""
    torch.manual_seed(0)
    restart(WEIGHTS)


if __name__ == "__main__":
    main()
