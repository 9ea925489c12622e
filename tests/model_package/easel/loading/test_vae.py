import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

import easel.loading.vae
from easel.load import load_generator
from easel.loading.pipeline import load_pipeline
from easel.startup.quiet import without_warnings
from generation import GenerationRequest
from tests.model_package.doubles.pipelines import BarePipeline

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("dtype", "upcasts", "device", "capability", "expected"),
    [
        (torch.float16, True, CUDA, (7, 5), torch.float32),
        (torch.float16, True, CUDA, (8, 0), torch.bfloat16),
        (torch.float16, True, CUDA, (9, 0), torch.bfloat16),
        (torch.float16, False, CUDA, (7, 5), torch.float16),
        (torch.bfloat16, True, CUDA, (9, 0), torch.bfloat16),
        (torch.float32, True, CPU, None, torch.float32),
    ],
)
def test_a_vae_that_overflows_in_16_bits_computes_in_others(
    monkeypatch, dtype, upcasts, device, capability, expected
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    vae = SimpleNamespace(dtype=dtype, config=SimpleNamespace(force_upcast=upcasts))
    assert easel.loading.vae.safe_dtype(vae, device) == expected


@pytest.mark.parametrize(("kind", "expected"), [("sd", torch.float16), ("sdxl", torch.float32)])
def test_stable_diffusions_own_vae_stays_in_16_bits(stand_in, monkeypatch, kind, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    pipeline = load_pipeline(
        stand_in(kind=kind), dtype=torch.float16, device=CPU, allow_pickle=False
    )
    assert pipeline.vae.config.force_upcast
    easel.loading.vae.prepare(pipeline, device=CUDA, tiling=False)
    assert pipeline.vae.dtype == expected


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_a_vae_in_other_numbers_than_its_pipeline_generates_the_same_picture(stand_in, kind):
    size = {"prompt": "a", "width": 64, "height": 64, "num_inference_steps": 2, "output_type": "np"}
    pictures = []
    for vae_dtype in (torch.bfloat16, torch.float32):
        pipeline = load_pipeline(
            stand_in(kind=kind), dtype=torch.bfloat16, device=CPU, allow_pickle=False
        )
        if vae_dtype != torch.bfloat16:
            easel.loading.vae.compute_in(pipeline.vae, vae_dtype)
        with without_warnings():
            pictures.append(pipeline(**size, generator=torch.Generator().manual_seed(7)).images)
        assert pipeline.vae.dtype == vae_dtype
    assert (pictures[0] != pictures[1]).any()
    assert np.abs(pictures[0] - pictures[1]).max() < 0.05


@pytest.mark.parametrize("tiling", [True, False])
def test_slicing_is_on_and_tiling_a_setting(stand_in, tiling):
    pipeline = load_pipeline(stand_in(), dtype=torch.float32, device=CPU, allow_pickle=False)
    easel.loading.vae.prepare(pipeline, device=CPU, tiling=tiling)
    assert (pipeline.vae.use_slicing, pipeline.vae.use_tiling) == (True, tiling)


def test_a_pipeline_without_a_vae_does_not_change():
    easel.loading.vae.prepare(BarePipeline(), device=CPU, tiling=True)


@pytest.fixture
def with_small_vae(stand_in, tmp_path):
    """Return a function that makes a model whose VAE is another, as its owner would."""

    def make(kind):
        folder = shutil.copytree(stand_in(kind=kind), tmp_path / kind)
        shutil.rmtree(folder / "vae")
        torch.manual_seed(0)
        wide, deep = (8,) * 4, (1,) * 4
        AutoencoderTiny(
            encoder_block_out_channels=wide,
            decoder_block_out_channels=wide,
            num_encoder_blocks=deep,
            num_decoder_blocks=deep,
        ).save_pretrained(folder / "vae")
        index = json.loads((folder / "model_index.json").read_text())
        index["vae"] = ["diffusers", "AutoencoderTiny"]
        (folder / "model_index.json").write_text(json.dumps(index))
        return folder

    return make


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
@pytest.mark.parametrize("environ", [{}, {"EASEL_VAE_TILING": "on", "EASEL_CHANNELS_LAST": "on"}])
def test_a_model_with_a_small_vae_generates_as_diffusers_does(with_small_vae, kind, environ):
    folder = with_small_vae(kind)
    size = {"width": 64, "height": 64}
    request = GenerationRequest(prompt="a", seed=7, steps=2, guidance_scale=5.0, **size)
    actual = load_generator(folder, {"EASEL_DTYPE": "fp32", **environ}).generate(request).pixels
    plain = load_pipeline(folder, dtype=torch.float32, device=CPU, allow_pickle=False)
    assert isinstance(plain.vae, AutoencoderTiny)
    with without_warnings():
        picture = plain(
            "a",
            guidance_scale=5.0,
            num_inference_steps=2,
            **size,
            generator=torch.Generator().manual_seed(7),
        ).images[0]
    assert np.abs(actual.astype(int) - np.asarray(picture)).max() <= 1
    assert actual.std() > 1
