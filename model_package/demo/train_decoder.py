"""Train the autoencoder that turns latents into pictures, and pictures into latents.

    python -m model_package.demo.train_decoder

The latents are known in closed form (`codec.py`), so this needs no UNet and can run at the same
time. The codec's own inverse is blurred and blocky; the decoder has learnt what the artwork's edges
look like. The encoder, which only img2img needs, is taught to agree with the codec.
"""

import os
import time

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from model_package.demo.artwork import load_artwork
from model_package.demo.codec import CHANNELS, Codec
from model_package.demo.compose import Composer
from model_package.demo.pool import draw_pictures, load_codec
from model_package.demo.styles import STYLES, Style
from model_package.demo.training import Plan, Rng, Trainer
from model_package.demo.work_dir import PICTURE_SIZE, WORK_DIR, pick_device, use_threads

# Knobs
SECONDS = float(os.environ.get("EASEL_DECODER_SECONDS", "1800"))
RATE = float(os.environ.get("EASEL_DECODER_RATE", "2e-3"))  # half of it after `restart`
BATCH = 8
NOISE = 0.2  # the UNet's latents are not exact: learn to paint from ones that are a little wrong
ENCODER_TURNS = 0.15  # share of the batches that also teach the encoder
STYLED = 0.2  # share of the batches in a look that LoRAs are trained for
PLAN = Plan(seconds=SECONDS, rate=RATE, hold=0.3, average=0.998, checkpoint_seconds=120)

FOLDER = WORK_DIR / "decoder"
CERTAIN = -8.0  # the encoder's log variance: the codec has no spread, and 0 would mean noise


def new_autoencoder() -> AutoencoderKL:
    """An untrained autoencoder: 1.7 million weights, eight pixels to a latent."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        sample_size=PICTURE_SIZE,
        scaling_factor=1.0,  # the codec has made them unit variance
        mid_block_add_attention=False,
    )


def edges(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between neighbouring pixels, across and down."""
    return pictures.diff(dim=-1), pictures.diff(dim=-2)


def picture_loss(painted: Tensor, right: Tensor) -> Tensor:
    """Wrong colours, wrong edges; the squared part hurts where something is missing altogether."""
    edge = sum(
        (l1_loss(a, b) for a, b in zip(edges(painted), edges(right), strict=True)),
        start=torch.zeros((), device=right.device),
    )
    return l1_loss(painted, right) + 0.8 * edge + 0.3 * mse_loss(painted, right)


class DecoderObjective:
    """Draws new pictures for every batch and says how badly they were painted."""

    def __init__(self, composer: Composer, codec: Codec) -> None:
        self.composer = composer
        self.codec = codec
        self.device = pick_device()

    def __call__(self, autoencoder: nn.Module, rng: Rng) -> Tensor:
        if not isinstance(autoencoder, AutoencoderKL):
            raise TypeError("this objective is for an AutoencoderKL")
        # New pictures each time; their seed comes from the run's own rng, so a run can resume.
        seed = int(rng.choices.integers(2**62))
        _, pictures = draw_pictures(self.composer, BATCH, seed, self.pick_look(rng))
        latents = self.codec.encode(pictures)
        wrong = self.decoding(autoencoder, latents, pictures, rng)
        if rng.choices.random() < ENCODER_TURNS:
            wrong = wrong + self.encoding(autoencoder, latents, pictures)
        return wrong

    @staticmethod
    def pick_look(rng: Rng) -> Style | None:
        """The look of a batch; mostly none."""
        if rng.choices.random() >= STYLED:
            return None
        return list(STYLES.values())[rng.choices.integers(len(STYLES))]

    def decoding(
        self, autoencoder: AutoencoderKL, latents: Tensor, pictures: Tensor, rng: Rng
    ) -> Tensor:
        """How far the pictures painted from spoilt latents are from the right ones."""
        amount = NOISE * torch.rand(len(latents), 1, 1, 1, generator=rng.noise)
        spoilt = latents + amount * torch.randn(latents.shape, generator=rng.noise)
        with torch.autocast(self.device.type, torch.bfloat16):
            painted = autoencoder.decode(spoilt.to(self.device)).sample
        return picture_loss(painted.float(), pictures.to(self.device))

    def encoding(self, autoencoder: AutoencoderKL, latents: Tensor, pictures: Tensor) -> Tensor:
        """How far the encoder is from the codec."""
        with torch.autocast(self.device.type, torch.bfloat16):
            found = autoencoder.encode(pictures.to(self.device)).latent_dist
        unsure = (found.logvar.float() - CERTAIN).square().mean()
        wrong = mse_loss(found.mean.float(), latents.to(self.device))
        return torch.add(wrong, unsure, alpha=1e-3)


def load_autoencoder() -> AutoencoderKL:
    """The trained autoencoder of this working folder."""
    trainer = Trainer(new_autoencoder(), PLAN, FOLDER)
    if not trainer.resume() or not isinstance(trainer.average, AutoencoderKL):
        raise FileNotFoundError(f"no decoder in {FOLDER}: run train_decoder first")
    return trainer.average


def main() -> None:
    """Train until the plan's time is used up."""
    use_threads(1)
    torch.manual_seed(0)
    composer = Composer(load_artwork())
    # This may run beside the UNet's training with what that leaves over, so its time is its own.
    autoencoder = new_autoencoder().to(pick_device())
    trainer = Trainer(autoencoder, PLAN, FOLDER, clock=time.process_time)
    trainer.resume()
    trainer.train(DecoderObjective(composer, load_codec(composer)))


if __name__ == "__main__":
    main()
