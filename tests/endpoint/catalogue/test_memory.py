"""The formula for the memory of models, compared with models in memory."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from endpoint.catalogue import memory, models, prices
from endpoint.catalogue.memory import GB, Component
from endpoint.core.model_folder.files import select
from tests.model_folders import write_file, write_pipeline

DEMO = Path(__file__).parents[3] / "model_package" / "demo" / "weights"
TYPES = prices.instance_types()
SMALL = Component("vae", 80_000_000)
DENOISER = Component("transformer", 6_000_000_000, 1_000_000)
TEXT = Component("text_encoder", 4_000_000_000, 400_000_000)


def in_memory(pipeline):
    """Return the bytes of a pipeline's weights."""
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    tensors = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize(("dtype", "number"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_weights_of_the_bundled_model_are_the_formulas(dtype, number):
    from easel.loading.pipeline import load_pipeline

    pipeline = load_pipeline(DEMO, dtype=number, device=torch.device("cpu"), allow_pickle=False)
    components = [part for part in memory.of_folder(DEMO) if not part.name.startswith("refiner/")]

    assert memory.weights(components, dtype) == pytest.approx(in_memory(pipeline), rel=0.1)


def test_the_activations_are_those_of_a_real_vae():
    """A trace without numbers of the decoder with the sizes of SDXL's, for 512 x 512 pixels."""
    side = 512
    with FakeTensorMode():
        torch.set_default_dtype(torch.float16)
        try:
            vae = _full_size_vae()
        finally:
            torch.set_default_dtype(torch.float32)
        latents = torch.empty(1, 4, side // 8, side // 8, dtype=torch.float16)
        with torch.no_grad(), Peak() as traced:
            vae.decode(latents)
    needed = memory.estimate([SMALL], dtype="fp16", width=side, height=side)

    assert needed.activations == pytest.approx(traced.peak, rel=0.05)


def _full_size_vae():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
    ).eval()


class Peak(TorchDispatchMode):
    """Records the bytes of the tensors that exist at once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return output

    def _count(self, storage):
        if storage._cdata in self._seen:
            return
        self._seen.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())

    def _free(self, place, size):
        self._seen.discard(place)
        self.now -= size


def test_8_bits_are_for_denoisers_and_large_text_encoders():
    assert DENOISER.size("bf16", "fp8") == pytest.approx(6.0 * GB, rel=0.01)
    assert TEXT.size("bf16", "int8") == 3.6 * GB + 0.8 * GB
    assert SMALL.size("bf16", "fp8") == SMALL.size("bf16")
    assert Component("text_encoder", 123_000_000).size("fp16", "fp8") == 246_000_000


@pytest.mark.parametrize("quantise", ["gguf", "nunchaku_lite"])
def test_files_of_others_have_denoisers_only(quantise):
    assert DENOISER.size("bf16", quantise) < DENOISER.size("bf16") * 0.55
    assert TEXT.size("bf16", quantise) == TEXT.size("bf16")


@pytest.mark.parametrize(
    ("quantise", "published"), [("none", 21.7), ("fp8", 13.3)]
)  # https://huggingface.co/bahadirakdemir
def test_z_image_turbo_needs_what_was_measured(quantise, published):
    needed = models.read()["z-image-turbo"].memory(TYPES["ml.g6.2xlarge"], quantise)
    assert needed.total / GB == pytest.approx(published, rel=0.1)


def test_a_vae_in_32_bits_needs_twice_as_much_without_bfloat16():
    model = models.read()["sdxl-lightning"]
    on_t4, on_l4 = (model.memory(TYPES[name]) for name in ("ml.g4dn.xlarge", "ml.g6.xlarge"))
    assert on_t4.activations == 2 * on_l4.activations
    assert on_t4.weights == on_l4.weights


@pytest.mark.parametrize(
    ("parameters", "state"),
    # Of the last but one, the weights and CUDA alone have 24.1 GB; with a picture it is 25.7.
    [
        (8e9, "fits"),
        (10.5e9, "tight"),
        (11.7e9, "tight"),
        (11.8e9, "too large"),
        (14e9, "too large"),
    ],
)
def test_an_instance_fits_is_tight_or_too_small(parameters, state):
    parts = [Component("transformer", int(parameters))]
    needed = memory.estimate(parts, dtype="bf16", width=1024, height=1024)
    compared = memory.fit(needed, TYPES["ml.g6.2xlarge"])
    assert compared.state == state
    assert f"{needed.total / GB:.1f} of 24 GB: {state}" in compared.finding


def test_weights_that_main_memory_cannot_hold_are_tight():
    needed = models.read()["flux2-klein"].memory(TYPES["ml.g6.xlarge"])
    compared = memory.fit(needed, TYPES["ml.g6.xlarge"])
    assert compared.state == "tight"
    assert "of main memory, of which there are 17" in compared.finding


def test_a_file_that_is_no_safetensors_file_is_an_error(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match="no safetensors file"):
        memory._count(file)


def test_adapters_are_no_components_wherever_they_are(tmp_path):
    folder = write_pipeline(tmp_path / "mine")
    before = memory.of_folder(folder)
    write_file(folder / "loras" / "water.safetensors")
    write_file(folder / "loras" / "styles" / "oil.safetensors")
    assert "loras/styles/oil.safetensors" in select(folder).files
    assert memory.of_folder(folder) == before


def test_a_refiners_components_have_names_of_their_own():
    names = [component.name for component in memory.of_folder(DEMO)]
    assert {"unet", "refiner/unet", "text_encoder", "vae"} <= set(names)
    assert len(names) == len(set(names))
