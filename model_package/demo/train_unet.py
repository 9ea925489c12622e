"""Train the UNet together with the text encoder.

    python -m model_package.demo.train_unet

Requires the pool, the tokenizer and the text encoder. It can be stopped at any time and resumes at
its last checkpoint. To train a finished model further from its checkpoints, raise `SECONDS`, move
the file in `unet/before-fall` up into `unet` and delete the later ones there: training then
continues from before the learning rate decayed. With the exported weights only, use `restart.py`.
"""

import os

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from transformers import CLIPTextModel

from model_package.demo.data.captions import Captioner
from model_package.demo.data.codec import CHANNELS, LATENT_SIZE
from model_package.demo.pipeline import NOISING
from model_package.demo.pool import Pool
from model_package.demo.sample_sheet import SHEET_PROMPTS, draw_latents, save_sheet
from model_package.demo.tokens import load_tokenizer, to_ids
from model_package.demo.train_text import WIDTH, load_text_encoder
from model_package.demo.training.trainer import Plan, Rng, Trainer
from model_package.demo.work_dir import WORK_DIR, pick_device, use_threads

# Settings
SECONDS = float(os.environ.get("EASEL_UNET_SECONDS", "10800"))  # three hours of one CPU core
RATE = float(os.environ.get("EASEL_UNET_RATE", "8e-4"))  # three quarters of it after `restart`
BATCH = 24 if pick_device().type == "cpu" else 768
UNCAPTIONED = 0.1  # share of the images with an empty caption, for classifier-free guidance
TEXT_SHARE = 0.4  # of the learning rate, for the text encoder, which is already pretrained
CENTRED = 0.6  # how much the time steps are concentrated in the middle, from 0 to 1
PLAN = Plan(seconds=SECONDS, rate=RATE, hold=0.45, average=0.9985, checkpoint_seconds=450)

FOLDER = WORK_DIR / "unet"
START = WORK_DIR / "unet-start"  # a finished UNet to train further, from `restart.py`


def new_unet() -> UNet2DConditionModel:
    """Return an untrained UNet: 8.8 million weights, 17.5 MB in half precision."""
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
    """Return the UNet that training starts with: from `restart.py`, or an untrained one."""
    unet = new_unet()
    if START.exists():
        # Not `from_pretrained`, which would put this folder's path into the exported files.
        unet.load_state_dict(load_file(START / "diffusion_pytorch_model.safetensors"))
    return unet


class ConditionedUNet(nn.Module):
    """The text encoder and the UNet as one module, to train them together."""

    def __init__(self, encoder: CLIPTextModel, unet: UNet2DConditionModel | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.unet = unet or first_unet()
        self.trains_text = True

    def forward(self, noisy: Tensor, times: Tensor, ids: Tensor) -> Tensor:
        """Return the velocity (v-prediction) of noisy latents (N, 8, 16, 16)."""
        with torch.set_grad_enabled(self.trains_text and torch.is_grad_enabled()):
            text = self.encoder(ids).last_hidden_state
        velocity: Tensor = self.unet(noisy, times, encoder_hidden_states=text).sample
        return velocity


class UNetObjective:
    """Adds noise to latents of the pool and returns the loss of the predicted velocity."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.tokenizer = load_tokenizer()
        self.noising = DDPMScheduler(**NOISING)
        self.device = pick_device()

    def __call__(self, model: nn.Module, rng: Rng) -> Tensor:
        chosen = rng.choices.integers(len(self.pool.specs), size=BATCH)
        ids = to_ids(self.tokenizer, self.captions(chosen.tolist(), rng))
        latents = self.pool.latents[chosen].float()
        noise = torch.randn(latents.shape, generator=rng.noise)
        times = self.times(rng)
        noisy = self.noising.add_noise(latents, noise, times)
        velocity = self.noising.get_velocity(latents, noise, times)
        with torch.autocast(self.device.type, torch.bfloat16):
            predicted = model(*(part.to(self.device) for part in (noisy, times, ids)))
        return mse_loss(predicted.float(), velocity.to(self.device))

    def captions(self, chosen: list[int], rng: Rng) -> list[str]:
        """Return a caption for each chosen image; a share of UNCAPTIONED is empty."""
        captioner = Captioner(rng.choices)
        specs = [self.pool.specs[index] for index in chosen]
        return [
            "" if rng.choices.random() < UNCAPTIONED else captioner.caption(spec) for spec in specs
        ]

    @staticmethod
    def times(rng: Rng) -> Tensor:
        """Return time steps, one from each of BATCH equal strata, for a loss with less variance.

        They are concentrated in the middle, where the shapes are decided: at high noise nothing can
        be seen, at low noise everything. At CENTRED = 1 their logit would be normally distributed,
        as in Stable Diffusion 3 (Esser et al. 2024, section 3.1).
        """
        shares = (torch.arange(BATCH) + torch.rand(BATCH, generator=rng.noise)) / BATCH
        shares = torch.lerp(shares, torch.special.ndtri(shares).sigmoid(), CENTRED)
        steps = int(NOISING["num_train_timesteps"])
        return (shares * steps).long().clamp(max=steps - 1)


def new_trainer(encoder: CLIPTextModel) -> Trainer:
    """Return the trainer of this part, before its first step."""
    model = set_up(ConditionedUNet(encoder))
    return Trainer(model, PLAN, FOLDER, shares={"encoder": TEXT_SHARE})


def set_up(model: ConditionedUNet) -> ConditionedUNet:
    """Put a model on the device and into the memory layout that train fastest."""
    model.to(pick_device())
    # The fastest layout for convolutions, on CPUs (by a tenth) and GPUs.
    model.unet.to(memory_format=torch.channels_last)
    if pick_device().type == "cpu":
        # The fused attention's backward pass is slower: 28 samples a second instead of 40.
        model.unet.set_attn_processor(AttnProcessor())
    return model


def load_conditioned_unet() -> ConditionedUNet:
    """Return the trained text encoder and UNet from the working folder."""
    trainer = new_trainer(load_text_encoder())
    if not trainer.resume() or not isinstance(trainer.average, ConditionedUNet):
        raise FileNotFoundError(f"no UNet in {FOLDER}: run train_unet first")
    return trainer.average


def main() -> None:
    """Train until the end of the plan, with a sheet of samples at every checkpoint."""
    use_threads(1)
    torch.manual_seed(0)
    trainer = new_trainer(load_text_encoder())
    trainer.resume()
    model = trainer.module
    if pick_device().type == "cuda":
        model.compile()
    sheets, objective = FOLDER / "sheets", UNetObjective(Pool.load())

    def loss_of(module: nn.Module, rng: Rng) -> Tensor:
        # While the rate decays, only the UNet is trained: the text encoder has learnt enough by
        # then, and its backward pass is a seventh of the cost.
        if isinstance(module, ConditionedUNet):
            module.trains_text = trainer.is_held()
        return objective(module, rng)

    def show() -> None:
        average = trainer.average
        if isinstance(average, ConditionedUNet):
            latents = draw_latents(average.unet, average.encoder, SHEET_PROMPTS)
            save_sheet(latents, sheets / f"step-{trainer.step:07}.png")

    trainer.train(loss_of, show)


if __name__ == "__main__":
    main()
