"""The training target, and the weight of each noise level in the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def signal_and_noise(schedule: Any, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors of latent and noise at timesteps, shaped to multiply a batch."""
    cumulated = schedule.alphas_cumprod[timesteps.cpu()].to(like.device, torch.float32)
    cumulated = cumulated.view(-1, *[1] * (like.dim() - 1))
    return cumulated.sqrt(), (1 - cumulated).sqrt()


def noisy_and_target(
    schedule: Any, latents: Tensor, noise: Tensor, timesteps: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what the UNet sees, and what it must predict: the noise, or v.

    v is that of "Progressive Distillation" (https://arxiv.org/abs/2202.00512), appendix D.
    """
    signal, spread = signal_and_noise(schedule, timesteps, latents)
    noisy = signal * latents + spread * noise
    if schedule.config.prediction_type == "v_prediction":
        return noisy, signal * noise - spread * latents
    return noisy, noise


def min_snr_weights(schedule: Any, timesteps: Tensor, gamma: float) -> Tensor:
    """Return the weight of each timestep; 1 if gamma is 0.

    "Efficient Diffusion Training via Min-SNR Weighting" (https://arxiv.org/abs/2303.09556) limits
    the weight of the loss in the latent to gamma. Predicting the noise divides it by the ratio of
    signal to noise, predicting v by that ratio plus one.
    """
    cumulated: Tensor = schedule.alphas_cumprod[timesteps.cpu()].float()
    if not gamma:
        return torch.ones_like(cumulated)
    ratio = cumulated / (1 - cumulated)
    limited = ratio.clamp(max=gamma)
    if schedule.config.prediction_type == "v_prediction":
        return limited / (ratio + 1)
    return limited / ratio.clamp(min=1e-8)
