"""Train the refiner: a small UNet for the last fifth of the noise.

    python -m model_package.demo.train_refiner

Requires the trained UNet and the pool. At low noise the image is almost decided and the remaining
work is local. So the refiner is the UNet's outer half, without the innermost level, which sees the
whole image, and starts with the UNet's own weights. At the end it is compared with the UNet on the
same noise. It shares the UNet's text encoder, which is not trained here.
"""

import os
from collections.abc import Mapping

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from model_package.demo.data.codec import CHANNELS, LATENT_SIZE
from model_package.demo.pool import Pool
from model_package.demo.train_text import WIDTH
from model_package.demo.train_unet import (
    BATCH,
    ConditionedUNet,
    UNetObjective,
    load_conditioned_unet,
    set_up,
)
from model_package.demo.training.trainer import Plan, Rng, Trainer
from model_package.demo.work_dir import WORK_DIR, use_threads

# Settings
SECONDS = float(os.environ.get("EASEL_REFINER_SECONDS", "900"))
LAST = 200  # of 1000 time steps: the rest after a base that does 80 % of the denoising
COMPARED = 40  # batches for the comparison at the end
PLAN = Plan(seconds=SECONDS, rate=6e-4, hold=0.3, average=0.998, checkpoint_seconds=120)

FOLDER = WORK_DIR / "refiner"


def new_refiner() -> UNet2DConditionModel:
    """Return an untrained refiner: 2.8 million weights, 5.7 MB in half precision."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type=None,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def copy_outer_half(base: UNet2DConditionModel, refiner: UNet2DConditionModel) -> int:
    """Copy the base's weights that fit the refiner; return their number.

    Down blocks have the same indices in both; the base's up blocks start one level deeper.
    """
    source = {outer_name(name): weight for name, weight in base.state_dict().items()}
    target: Mapping[str, Tensor] = refiner.state_dict()
    fitting = {
        name: source[name]
        for name, weight in target.items()
        if name in source and source[name].shape == weight.shape
    }
    refiner.load_state_dict(fitting, strict=False)
    return sum(weight.numel() for weight in fitting.values())


def outer_name(name: str) -> str:
    """Return the refiner's name for a weight of the base."""
    part, _, rest = name.partition(".")
    if part != "up_blocks":
        return name
    number, _, rest = rest.partition(".")
    return f"{part}.{int(number) - 1}.{rest}"


class FinishingObjective(UNetObjective):
    """The UNet's objective for the last time steps only."""

    @staticmethod
    def times(rng: Rng) -> Tensor:
        """Return time steps, one from each of BATCH equal strata."""
        shares = (torch.arange(BATCH) + torch.rand(BATCH, generator=rng.noise)) / BATCH
        return (shares * LAST).long().clamp(max=LAST - 1)


def new_trainer(base: ConditionedUNet) -> Trainer:
    """Return the trainer of this part, before its first step."""
    refiner = new_refiner()
    copy_outer_half(base.unet, refiner)
    model = set_up(ConditionedUNet(base.encoder.requires_grad_(False), refiner))
    model.trains_text = False
    return Trainer(model, PLAN, FOLDER)


def load_refiner() -> UNet2DConditionModel | None:
    """Return the trained refiner from the working folder, or None."""
    trainer = Trainer(ConditionedUNet(load_conditioned_unet().encoder, new_refiner()), PLAN, FOLDER)
    if not trainer.resume() or not isinstance(trainer.average, ConditionedUNet):
        return None
    return trainer.average.unet


@torch.no_grad()
def mean_loss(model: nn.Module, objective: FinishingObjective) -> float:
    """Return the mean loss over a fixed set of batches."""
    rng = Rng(seed=1)
    return sum(float(objective(model, rng)) for _ in range(COMPARED)) / COMPARED


def main() -> None:
    """Train until the end of the plan, and compare."""
    use_threads(1)
    torch.manual_seed(0)
    base = load_conditioned_unet()
    trainer = new_trainer(base)
    trainer.resume()
    objective = FinishingObjective(Pool.load())
    trainer.train(objective)
    print(f"error of the UNet alone {mean_loss(set_up(base), objective):.4f}")
    print(f"error of the refiner {mean_loss(trainer.average, objective):.4f}", flush=True)


if __name__ == "__main__":
    main()
