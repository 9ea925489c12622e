"""Take the exported weights up again, to train a finished model further.

    EASEL_TRAINING=/an/empty/folder python -m model_package.demo.restart

fills an empty working folder with what every training starts from: the tokenizer, the codec, the
UNet, and for the text encoder and the autoencoder a checkpoint at step 0 with the exported weights.
All steps then go on from there, with plans that start anew:

    python -m model_package.demo

What an export does not keep is lost: the optimizer's memory, which the warm-up fills again, and the
heads of the text encoder's first lessons, which are learnt anew. The codec has to be the very one
that the weights were trained with, for it says what the latents mean.
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
from model_package.demo.training import Plan, Trainer
from model_package.demo.work_dir import WEIGHTS


def read_text_encoder(weights: Path) -> CLIPTextModel:
    """The exported text encoder, as `new_text_encoder` sets it up for training."""
    encoder = new_text_encoder()
    held = load_file(weights / "text_encoder" / "model.safetensors")
    prefix = PREFIX if any(name.startswith(PREFIX) for name in encoder.state_dict()) else ""
    encoder.load_state_dict({prefix + name.removeprefix(PREFIX): held[name] for name in held})
    return encoder


def read_autoencoder(weights: Path) -> AutoencoderKL:
    """The exported autoencoder, in single precision."""
    autoencoder: AutoencoderKL = AutoencoderKL.from_pretrained(weights / "vae")
    return autoencoder.float()


def begin(module: torch.nn.Module, plan: Plan, folder: Path) -> None:
    """Write the checkpoint of a part that has not taken a step yet, unless there is one."""
    trainer = Trainer(module, plan, folder)
    if not trainer.resume():
        trainer.save()


def restart(weights: Path) -> None:
    """Fill this working folder from a folder of exported weights; keep what is there already."""
    if not CODEC_FILE.exists():
        CODEC_FILE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(weights / CODEC_NAME, CODEC_FILE)
    if not tokens.FOLDER.exists():
        shutil.copytree(weights / "tokenizer", tokens.FOLDER)
    model = TextModel()
    model.encoder = read_text_encoder(weights)
    begin(model, train_text.PLAN, train_text.FOLDER)
    if not train_unet.START.exists():
        # No checkpoint: that would bring the text encoder of today back after its new lessons.
        shutil.copytree(weights / "unet", train_unet.START)
    begin(read_autoencoder(weights), train_decoder.PLAN, train_decoder.FOLDER)


def main() -> None:
    """Take up the weights that are committed."""
    torch.manual_seed(0)
    restart(WEIGHTS)


if __name__ == "__main__":
    main()
