"""Assemble the trained parts as a standard Stable Diffusion pipeline."""

from typing import Any

from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTokenizer

# The noise schedule: Stable Diffusion's betas with a higher maximum, so that the last step is pure
# noise (sigma about 65) and sampling can start from pure noise.
NOISING: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
}

# The model's defaults for fields that a request leaves unset.
STEPS = 20
GUIDANCE_SCALE = 3.0


def new_scheduler() -> DPMSolverMultistepScheduler:
    """Return DPM++ 2M with trailing time steps, which start at the highest noise level."""
    settings = {key: value for key, value in NOISING.items() if key != "clip_sample"}
    scheduler = DPMSolverMultistepScheduler(
        **settings,
        timestep_spacing="trailing",
        steps_offset=1,  # has no effect on trailing steps, but the pipeline warns without it
    )
    # Not for this scheduler but for DDIM, which is often created from its configuration and clips
    # by default; these latents exceed -1..1.
    scheduler.register_to_config(clip_sample=False)
    return scheduler


def assemble(
    unet: UNet2DConditionModel,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    autoencoder: AutoencoderKL,
) -> StableDiffusionPipeline:
    """Return the pipeline, without a safety checker: the vocabulary has nothing to check."""
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
