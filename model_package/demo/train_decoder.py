"""Train the autoencoder that decodes latents to images and encodes images to latents.

    python -m model_package.demo.train_decoder

The latents have a closed form (`data/codec.py`), so this needs no UNet and can run at the same
time. The codec's own inverse is blurred and blocky; the decoder learns the edges of the artwork.
The encoder, which only img2img needs, is trained to reproduce the codec.
"""

import os
import time

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from model_package.demo.artwork import load_artwork
from model_package.demo.data.codec import CHANNELS, Codec
from model_package.demo.data.compose import Composer
from model_package.demo.data.styles import STYLES, Style
from model_package.demo.pool import draw_pictures, load_codec
from model_package.demo.training.trainer import Plan, Rng, Trainer
from model_package.demo.work_dir import PICTURE_SIZE, WORK_DIR, pick_device, use_threads

# Settings
SECONDS = float(os.environ.get("EASEL_DECODER_SECONDS", "1800"))
RATE = float(os.environ.get("EASEL_DECODER_RATE", "2e-3"))  # half of it after `restart`
BATCH = 8
NOISE = 0.2  # added to the latents, because the UNet's are not exact either
ENCODER_SHARE = 0.15  # of the batches, which also train the encoder
STYLED = 0.2  # share of the batches in a style that LoRAs are trained for
PLAN = Plan(seconds=SECONDS, rate=RATE, hold=0.3, average=0.998, checkpoint_seconds=120)

FOLDER = WORK_DIR / "decoder"
LOG_VARIANCE = -8.0  # of the encoder: the codec is deterministic, and 0 would add noise


def new_autoencoder() -> AutoencoderKL:
    """Return an untrained autoencoder: 1.7 million weights, eight pixels for each latent."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        sample_size=PICTURE_SIZE,
        scaling_factor=1.0,  # the codec's latents have unit variance
        mid_block_add_attention=False,
    )


def edges(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return the differences between neighbouring pixels, horizontally and vertically."""
    return pictures.diff(dim=-1), pictures.diff(dim=-2)


def picture_loss(decoded: Tensor, target: Tensor) -> Tensor:
    """Return the loss for colours and edges; its squared part penalises missing objects."""
    edge = sum(
        (l1_loss(a, b) for a, b in zip(edges(decoded), edges(target), strict=True)),
        start=torch.zeros((), device=target.device),
    )
    return l1_loss(decoded, target) + 0.8 * edge + 0.3 * mse_loss(decoded, target)


class DecoderObjective:
    """Draws new images for every batch and returns the autoencoder's loss."""

    def __init__(self, composer: Composer, codec: Codec) -> None:
        self.composer = composer
        self.codec = codec
        self.device = pick_device()

    def __call__(self, autoencoder: nn.Module, rng: Rng) -> Tensor:
        if not isinstance(autoencoder, AutoencoderKL):
            raise TypeError("this objective is for an AutoencoderKL")
        # The seed comes from the run's own generator, so that a resumed run draws other images.
        seed = int(rng.choices.integers(2**62))
        _, pictures = draw_pictures(self.composer, BATCH, seed, self.pick_style(rng))
        latents = self.codec.encode(pictures)
        loss = self.decoding(autoencoder, latents, pictures, rng)
        if rng.choices.random() < ENCODER_SHARE:
            loss = loss + self.encoding(autoencoder, latents, pictures)
        return loss

    @staticmethod
    def pick_style(rng: Rng) -> Style | None:
        """Return the style of a batch; mostly None."""
        if rng.choices.random() >= STYLED:
            return None
        return list(STYLES.values())[rng.choices.integers(len(STYLES))]

    def decoding(
        self, autoencoder: AutoencoderKL, latents: Tensor, pictures: Tensor, rng: Rng
    ) -> Tensor:
        """Return the loss of images decoded from noisy latents."""
        amount = NOISE * torch.rand(len(latents), 1, 1, 1, generator=rng.noise)
        noisy = latents + amount * torch.randn(latents.shape, generator=rng.noise)
        with torch.autocast(self.device.type, torch.bfloat16):
            decoded = autoencoder.decode(noisy.to(self.device)).sample
        return picture_loss(decoded.float(), pictures.to(self.device))

    def encoding(self, autoencoder: AutoencoderKL, latents: Tensor, pictures: Tensor) -> Tensor:
        """Return the encoder's distance from the codec."""
        with torch.autocast(self.device.type, torch.bfloat16):
            encoded = autoencoder.encode(pictures.to(self.device)).latent_dist
        variance_loss = (encoded.logvar.float() - LOG_VARIANCE).square().mean()
        loss = mse_loss(encoded.mean.float(), latents.to(self.device))
        return torch.add(loss, variance_loss, alpha=1e-3)


def load_autoencoder() -> AutoencoderKL:
    """Return the trained autoencoder from the working folder."""
    trainer = Trainer(new_autoencoder(), PLAN, FOLDER)
    if not trainer.resume() or not isinstance(trainer.average, AutoencoderKL):
        raise FileNotFoundError(f"no decoder in {FOLDER}: run train_decoder first")
    return trainer.average


def main() -> None:
    """Train until the end of the plan."""
    use_threads(1)
    torch.manual_seed(0)
    composer = Composer(load_artwork())
    # Processor time, because this can run on the same core as the UNet's training.
    autoencoder = new_autoencoder().to(pick_device())
    trainer = Trainer(autoencoder, PLAN, FOLDER, clock=time.process_time)
    trainer.resume()
    trainer.train(DecoderObjective(composer, load_codec(composer)))


if __name__ == "__main__":
    main()
