import pytest

from easel.errors import ModelUnusable
from easel.loading.model_folder import (
    choose_variant,
    components,
    is_variant,
    pickled_only,
    read_index,
)

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
NAMES = ["scheduler", "unet", "vae"]


def weights(*names):
    return [f"{name}/diffusion_pytorch_model{end}" for name, end in names]


def test_the_components_are_those_that_the_index_names_with_a_class():
    assert components(INDEX) == NAMES


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("unet/diffusion_pytorch_model.fp16.safetensors", True),
        ("unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors", True),
        ("unet/diffusion_pytorch_model-00001-of-00002.fp16.safetensors", True),
        ("unet/diffusion_pytorch_model.safetensors.index.fp16.json", True),
        ("unet/diffusion_pytorch_model.safetensors", False),
        ("fp16/model.safetensors", False),
    ],
)
def test_the_variants_files_are_known_by_their_names(name, variant):
    assert is_variant(name) is variant


@pytest.mark.parametrize(
    ("files", "on_cpu", "on_gpu"),
    [
        ([("unet", ".safetensors"), ("vae", ".safetensors")], None, None),
        ([("unet", ".fp16.safetensors"), ("vae", ".fp16.safetensors")], "fp16", "fp16"),
        ([("unet", ".fp16.safetensors"), ("vae", ".safetensors")], "fp16", "fp16"),
        ([("unet", ".fp16.safetensors"), ("unet", ".safetensors")], None, "fp16"),
    ],
)
def test_16_bit_files_are_read_for_16_bits_or_if_there_are_no_others(files, on_cpu, on_gpu):
    paths = weights(*files)
    assert choose_variant(paths, NAMES, prefer_variant=False) == on_cpu
    assert choose_variant(paths, NAMES, prefer_variant=True) == on_gpu


def test_only_components_without_safetensors_count_as_pickled():
    files = weights(("unet", ".bin"), ("vae", ".bin"), ("vae", ".safetensors"), ("other", ".bin"))
    assert pickled_only(files, NAMES) == ["unet"]


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_an_index_that_cannot_be_read_is_refused(tmp_path, content):
    path = tmp_path / "model_index.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ModelUnusable, match=r"model_index\.json"):
        read_index(path)
