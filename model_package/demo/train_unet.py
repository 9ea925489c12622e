"""Train the UNet, and the text encoder along with it: this is where the pictures come from.

    python -m model_package.demo.train_unet

Needs the pool, the tokenizer and the text encoder. Stop it at any moment and start it again: it
goes on where it was. To train a finished model further where its checkpoints are still there, raise
`SECONDS`, move the file in `unet/before-fall` up into `unet` and delete the later ones there: from
before the rate fell, a longer run goes on as if it had been meant so. Where only the exported
weights are left, begin with `restart.py`.
"""

import os

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from transformers import CLIPTextModel

from model_package.demo.captions import Captioner
from model_package.demo.codec import CHANNELS, LATENT_SIZE
from model_package.demo.pipeline import NOISING
from model_package.demo.pool import Pool
from model_package.demo.sample_sheet import SHEET_PROMPTS, draw_latents, save_sheet
from model_package.demo.tokens import load_tokenizer, to_ids
from model_package.demo.train_text import WIDTH, load_text_encoder
from model_package.demo.training import Plan, Rng, Trainer
from model_package.demo.work_dir import WORK_DIR, pick_device, use_threads

# Knobs
SECONDS = float(os.environ.get("EASEL_UNET_SECONDS", "10800"))  # three hours of one CPU core
RATE = float(os.environ.get("EASEL_UNET_RATE", "8e-4"))  # three quarters of it after `restart`
BATCH = 24 if pick_device().type == "cpu" else 768
UNCAPTIONED = 0.1  # share of the pictures learnt without words, for classifier-free guidance
TEXT_SHARE = 0.4  # the text encoder has learnt already and moves more slowly
CENTRED = 0.6  # how far the time steps are drawn towards the middle, from 0 to 1
PLAN = Plan(seconds=SECONDS, rate=RATE, hold=0.45, average=0.9985, checkpoint_seconds=450)

FOLDER = WORK_DIR / "unet"
START = WORK_DIR / "unet-start"  # a finished UNet to train further, put there by `restart.py`


def new_unet() -> UNet2DConditionModel:
    """An untrained UNet: 8.8 million weights, 17.5 MB in half precision."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(64, 128, 160),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # diffusers' name for the number of heads
        norm_num_groups=16,
    )


def first_unet() -> UNet2DConditionModel:
    """What training begins with: the UNet that `restart.py` left, or an untrained one."""
    unet = new_unet()
    if START.exists():
        # Not `from_pretrained`: that would write this folder's path into what is exported.
        unet.load_state_dict(load_file(START / "diffusion_pytorch_model.safetensors"))
    return unet


class ConditionedUNet(nn.Module):
    """The text encoder and the UNet behind it, as they are trained together."""

    def __init__(self, encoder: CLIPTextModel, unet: UNet2DConditionModel | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.unet = unet or first_unet()
        self.text_moves = True

    def forward(self, noisy: Tensor, times: Tensor, ids: Tensor) -> Tensor:
        """The velocity (v-prediction) of noisy latents (N, 8, 16, 16)."""
        with torch.set_grad_enabled(self.text_moves and torch.is_grad_enabled()):
            text = self.encoder(ids).last_hidden_state
        velocity: Tensor = self.unet(noisy, times, encoder_hidden_states=text).sample
        return velocity


class UNetObjective:
    """Noises latents of the pool and says how badly the noise was told from the picture."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.tokenizer = load_tokenizer()
        self.noising = DDPMScheduler(**NOISING)
        self.device = pick_device()

    def __call__(self, model: nn.Module, rng: Rng) -> Tensor:
        chosen = rng.choices.integers(len(self.pool.specs), size=BATCH)
        ids = to_ids(self.tokenizer, self.word(chosen.tolist(), rng))
        latents = self.pool.latents[chosen].float()
        noise = torch.randn(latents.shape, generator=rng.noise)
        times = self.times(rng)
        noisy = self.noising.add_noise(latents, noise, times)
        right = self.noising.get_velocity(latents, noise, times)
        with torch.autocast(self.device.type, torch.bfloat16):
            found = model(*(part.to(self.device) for part in (noisy, times, ids)))
        return mse_loss(found.float(), right.to(self.device))

    def word(self, chosen: list[int], rng: Rng) -> list[str]:
        """A caption for each chosen picture, now and then an empty one."""
        captioner = Captioner(rng.choices)
        specs = [self.pool.specs[index] for index in chosen]
        return [
            "" if rng.choices.random() < UNCAPTIONED else captioner.word(spec) for spec in specs
        ]

    @staticmethod
    def times(rng: Rng) -> Tensor:
        """Time steps, one from each of as many equal strata: a steadier loss than free choice.

        They are drawn towards the middle, where the shape of things is decided: before that the
        noise hides everything, after that it hides nothing. Drawn fully, their logit would be
        normally distributed, as in Stable Diffusion 3 (Esser et al. 2024, section 3.1).
        """
        shares = (torch.arange(BATCH) + torch.rand(BATCH, generator=rng.noise)) / BATCH
        shares = torch.lerp(shares, torch.special.ndtri(shares).sigmoid(), CENTRED)
        steps = int(NOISING["num_train_timesteps"])
        return (shares * steps).long().clamp(max=steps - 1)


def new_trainer(encoder: CLIPTextModel) -> Trainer:
    """The trainer of this part, at its start."""
    model = set_up(ConditionedUNet(encoder))
    return Trainer(model, PLAN, FOLDER, shares={"encoder": TEXT_SHARE})


def set_up(model: ConditionedUNet) -> ConditionedUNet:
    """Bring a model to where and into the form in which it is trained fastest."""
    model.to(pick_device())
    # The layout that convolutions are fastest in, on CPU (by a tenth) and GPU.
    model.unet.to(memory_format=torch.channels_last)
    if pick_device().type == "cpu":
        # The fused attention's backward pass is slower here: 28 samples a second against 40.
        model.unet.set_attn_processor(AttnProcessor())
    return model


def load_conditioned_unet() -> ConditionedUNet:
    """The trained text encoder and UNet of this working folder."""
    trainer = new_trainer(load_text_encoder())
    if not trainer.resume() or not isinstance(trainer.average, ConditionedUNet):
        raise FileNotFoundError(f"no UNet in {FOLDER}: run train_unet first")
    return trainer.average


def main() -> None:
    """Train until the plan's time is used up, with a sheet of samples at every checkpoint."""
    use_threads(1)
    torch.manual_seed(0)
    trainer = new_trainer(load_text_encoder())
    trainer.resume()
    model = trainer.module
    if pick_device().type == "cuda":
        model.compile()
    sheets, objective = FOLDER / "sheets", UNetObjective(Pool.load())

    def loss_of(module: nn.Module, rng: Rng) -> Tensor:
        # While the rate falls the UNet alone is trained: by then the text encoder knows more than
        # the UNet makes of it, and its backward pass is a seventh of the cost.
        if isinstance(module, ConditionedUNet):
            module.text_moves = trainer.is_held()
        return objective(module, rng)

    def show() -> None:
        average = trainer.average
        if isinstance(average, ConditionedUNet):
            latents = draw_latents(average.unet, average.encoder, SHEET_PROMPTS)
            save_sheet(latents, sheets / f"step-{trainer.step:07}.png")

    trainer.train(loss_of, show)


if __name__ == "__main__":
    main()
