"""Put the trained parts together as a standard Stable Diffusion pipeline."""

from typing import Any

from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTokenizer

# How pictures are noised in training; Stable Diffusion's own betas, reaching a little further so
# that the last step is noise alone (sigma about 65) and sampling may start from noise alone.
NOISING: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
}

# What the model's own answers are where a request leaves them open.
STEPS = 20
GUIDANCE_SCALE = 3.0


def new_scheduler() -> DPMSolverMultistepScheduler:
    """DPM++ 2M with trailing time steps: the last of the noise is where it starts."""
    settings = {key: value for key, value in NOISING.items() if key != "clip_sample"}
    scheduler = DPMSolverMultistepScheduler(
        **settings,
        timestep_spacing="trailing",
        steps_offset=1,  # means nothing to trailing steps, but the pipeline warns without it
    )
    # Not read by this scheduler, but by DDIM, which is often made from its settings and clips
    # unless told otherwise; these latents go beyond -1..1.
    scheduler.register_to_config(clip_sample=False)
    return scheduler


def assemble(
    unet: UNet2DConditionModel,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    autoencoder: AutoencoderKL,
) -> StableDiffusionPipeline:
    """The pipeline, without the safety checker: the vocabulary holds nothing to check for."""
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
