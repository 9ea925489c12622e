"""A preview shows the picture: its colours are those of the VAE, as far as a linear map can."""

from types import SimpleNamespace

import numpy as np
import torch

from easel.pipelines.preview import Preview


class Linear:
    """A VAE whose colours are a linear map of its latents, eight pixels for each."""

    config = SimpleNamespace(latent_channels=4, scaling_factor=0.5, shift_factor=0.1)
    dtype = torch.float32

    def __init__(self):
        self.calls = 0
        self.map = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)) / 20

    def decode(self, latents, return_dict):
        self.calls += 1
        colours = torch.einsum("rc,bchw->brhw", self.map, latents)
        return (torch.nn.functional.interpolate(colours, scale_factor=8),)


def latents(height=5, width=7, channels=4):
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(2)) / 2


def test_it_is_what_a_linear_vae_decodes():
    vae, preview = Linear(), Preview()
    pixels = preview.of(SimpleNamespace(vae=vae), latents())

    (expected,) = vae.decode(latents() / 0.5 + 0.1, return_dict=False)[0]
    expected = (expected[:, ::8, ::8] / 2 + 0.5).permute(1, 2, 0) * 255
    assert pixels.shape == (5, 7, 3)
    assert np.abs(pixels - expected.numpy()).max() <= 1


def test_the_vae_decodes_once_for_all_previews():
    vae, preview = Linear(), Preview()
    for _ in range(3):
        preview.of(SimpleNamespace(vae=vae), latents())
    assert vae.calls == 1


def test_noise_that_a_scheduler_scales_up_stays_in_range():
    values = Preview().of(SimpleNamespace(vae=Linear()), latents() * 1_000)
    assert 0 < values.mean() < 255
    assert len(np.unique(values)) > 10


def test_overflowed_latents_are_a_picture_too():
    assert Preview().of(SimpleNamespace(vae=Linear()), latents() * np.nan).dtype == np.uint8


def test_other_latents_have_no_preview():
    pipeline = SimpleNamespace(vae=Linear())
    assert Preview().of(pipeline, latents(channels=16)) is None
    assert Preview().of(pipeline, torch.zeros(1, 64, 16)) is None
    assert Preview().of(pipeline, None) is None
    assert Preview().of(SimpleNamespace(), latents()) is None


def test_a_vae_that_is_compiled_for_one_size_makes_no_preview():
    pipeline = SimpleNamespace(vae=Linear(), static_size=(56, 40))
    assert Preview().of(pipeline, latents()) is None
    assert pipeline.vae.calls == 0
