"""Train the refiner: a small UNet for the last fifth of the noise.

    python -m model_package.demo.train_refiner

Needs the trained UNet, and the pool. There the picture is all but told, and what is left to do is
local: so the refiner is the UNet's outer half, without the level at which it sees the picture as a
whole, and begins with the UNet's own weights. At the end it is compared with the UNet on the same
noise. The text encoder is the UNet's, as it is.
"""

import os
from collections.abc import Mapping

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from model_package.demo.codec import CHANNELS, LATENT_SIZE
from model_package.demo.pool import Pool
from model_package.demo.train_text import WIDTH
from model_package.demo.train_unet import (
    BATCH,
    ConditionedUNet,
    UNetObjective,
    load_conditioned_unet,
    set_up,
)
from model_package.demo.training import Plan, Rng, Trainer
from model_package.demo.work_dir import WORK_DIR, use_threads

# Knobs
SECONDS = float(os.environ.get("EASEL_REFINER_SECONDS", "900"))
LAST = 200  # of 1000 time steps: what a base leaves over that does 80 % of the denoising
COMPARED = 40  # batches, at the end
PLAN = Plan(seconds=SECONDS, rate=6e-4, hold=0.3, average=0.998, checkpoint_seconds=120)

FOLDER = WORK_DIR / "refiner"


def new_refiner() -> UNet2DConditionModel:
    """An untrained refiner: 2.8 million weights, 5.7 MB in half precision."""
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
    """Give the refiner what weights of the base fit it; return how many there are.

    Blocks on the way down have the same numbers in both; on the way up the base begins one level
    deeper.
    """
    theirs = {outer_name(name): weight for name, weight in base.state_dict().items()}
    ours: Mapping[str, Tensor] = refiner.state_dict()
    fitting = {
        name: theirs[name]
        for name, weight in ours.items()
        if name in theirs and theirs[name].shape == weight.shape
    }
    refiner.load_state_dict(fitting, strict=False)
    return sum(weight.numel() for weight in fitting.values())


def outer_name(name: str) -> str:
    """What a weight of the base is called in the refiner."""
    part, _, rest = name.partition(".")
    if part != "up_blocks":
        return name
    number, _, rest = rest.partition(".")
    return f"{part}.{int(number) - 1}.{rest}"


class FinishingObjective(UNetObjective):
    """The same as the UNet's, for the last time steps alone."""

    @staticmethod
    def times(rng: Rng) -> Tensor:
        """Time steps, one from each of as many equal strata."""
        shares = (torch.arange(BATCH) + torch.rand(BATCH, generator=rng.noise)) / BATCH
        return (shares * LAST).long().clamp(max=LAST - 1)


def new_trainer(base: ConditionedUNet) -> Trainer:
    """The trainer of this part, at its start."""
    refiner = new_refiner()
    copy_outer_half(base.unet, refiner)
    finisher = set_up(ConditionedUNet(base.encoder.requires_grad_(False), refiner))
    finisher.text_moves = False
    return Trainer(finisher, PLAN, FOLDER)


def load_refiner() -> UNet2DConditionModel | None:
    """The trained refiner of this working folder; None where there is none."""
    trainer = Trainer(ConditionedUNet(load_conditioned_unet().encoder, new_refiner()), PLAN, FOLDER)
    found = trainer.resume()
    return trainer.average.unet if found and isinstance(trainer.average, ConditionedUNet) else None


@torch.no_grad()
def error(model: nn.Module, objective: FinishingObjective) -> float:
    """The mean loss over some batches, which are the same ones each time."""
    rng = Rng(seed=1)
    return sum(float(objective(model, rng)) for _ in range(COMPARED)) / COMPARED


def main() -> None:
    """Train until the plan's time is used up, and compare."""
    use_threads(1)
    torch.manual_seed(0)
    base = load_conditioned_unet()
    trainer = new_trainer(base)
    trainer.resume()
    objective = FinishingObjective(Pool.load())
    trainer.train(objective)
    print(f"error of the UNet alone {error(set_up(base), objective):.4f}")
    print(f"error of the refiner {error(trainer.average, objective):.4f}", flush=True)


if __name__ == "__main__":
    main()
