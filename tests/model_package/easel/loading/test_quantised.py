"""A transformer that was quantised before takes the place of the pipeline's own, or is refused."""

from __future__ import annotations

import json
import shutil

import gguf
import pytest
import torch

from easel.errors import ModelUnusable
from easel.load import load_generator
from easel.model_folder.check import check
from easel.model_folder.files import select
from generation import GenerationRequest, InvalidField
from tests.model_package.doubles import families
from tests.model_package.doubles.lora_files import random_layers, write_diffusers

ENVIRON = {
    "EASEL_DTYPE": "fp32",
    "EASEL_COMPILE": "off",
    "EASEL_DEFAULTS": '{"steps": 2, "width": 64, "height": 64}',
}
GGUF = {**ENVIRON, "EASEL_QUANTISE": "gguf"}
NUNCHAKU = {**ENVIRON, "EASEL_QUANTISE": "nunchaku_lite"}
REQUEST = GenerationRequest(prompt="a cat", seed=7)
KINDS = [name for name in families.FAMILIES if name != "flux3-klein-base"]
TARGETS = {"svdq_w4a4": {"precision": "int4", "group_size": 64, "rank": 32, "targets": ["a"]}}


def write_gguf(path, transformer):
    """Write all matrices in 8 bits, as tools do that know nothing about the model."""
    writer, eight = gguf.GGUFWriter(path, "x"), gguf.GGMLQuantizationType.Q8_0
    for name, parameter in transformer.state_dict().items():
        values = parameter.numpy()
        if values.ndim == 2 and values.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quants.quantize(values, eight), raw_dtype=eight)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def with_gguf(tmp_path):
    """Return a function that makes a family's folder with a GGUF file instead of its weights."""

    def make(name):
        folder = families.make_family(name, tmp_path / name)
        full = load_generator(folder, ENVIRON)
        (folder / "quantised").mkdir()
        write_gguf(folder / "quantised/model-Q8_0.gguf", families.build(name).transformer)
        for path in (folder / "transformer").glob("*.safetensors"):
            path.unlink()
        return folder, full

    return make


def size(generator):
    return sum(each.numel() * each.itemsize for each in generator.denoiser.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_a_gguf_file_replaces_the_transformers_weights(with_gguf, name):
    folder, full = with_gguf(name)
    assert check(folder) == []
    assert "quantised/model-Q8_0.gguf" in select(folder).files
    small = load_generator(folder, GGUF)
    painted, whole = (each.generate(REQUEST).pixels.astype(int) for each in (small, full))

    assert size(small) < 0.4 * size(full)
    assert small.describe()["speed"]["storage"] == "gguf"
    assert abs(painted - whole).mean() < 1
    assert (small.generate(REQUEST).pixels == painted).all()


def test_a_lora_is_refused_by_name_with_quantised_weights(with_gguf):
    folder, full = with_gguf("ernie-image")
    (folder / "loras").mkdir()
    layers = random_layers(full._pipeline, parts=("transformer",))
    write_diffusers(folder / "loras/style.safetensors", layers, alpha=4)
    request = GenerationRequest(prompt="a cat", lora="style:1")
    reason = r"style cannot be used: this model's weights are quantised \(gguf\), and take no LoRA"
    with pytest.raises(InvalidField, match=reason):
        load_generator(folder, GGUF).generate(request)
    shutil.copytree(folder / "loras", folder / "merged_lora")
    with pytest.raises(
        ModelUnusable, match=r"EASEL_QUANTISE is gguf, and style\.safetensors cannot"
    ):
        load_generator(folder, GGUF)


def test_a_container_without_the_package_says_so(with_gguf, monkeypatch):
    folder, _ = with_gguf("ernie-image")
    monkeypatch.setattr("diffusers.utils.import_utils._gguf_available", False)
    with pytest.raises(ModelUnusable, match="needs the Python package gguf"):
        load_generator(folder, GGUF)


@pytest.mark.parametrize("environ", [GGUF, NUNCHAKU])
def test_a_setting_without_a_transformer_names_the_variables(tmp_path, environ):
    folder = families.make_family("ernie-image", tmp_path / "model")
    with pytest.raises(ModelUnusable, match="or set EASEL_QUANTISED_ID and EASEL_QUANTISED_FILE"):
        load_generator(folder, environ)


def test_a_folder_with_a_quantised_transformer_names_the_setting(with_gguf):
    folder, _ = with_gguf("ernie-image")
    for environ in (ENVIRON, {**ENVIRON, "EASEL_QUANTISE": "fp8"}):
        with pytest.raises(ModelUnusable, match="set EASEL_QUANTISE=gguf, or delete it"):
            load_generator(folder, environ)


def test_a_model_with_a_unet_is_refused(stand_in, tmp_path):
    folder = shutil.copytree(stand_in(), tmp_path / "model")
    (folder / "quantised").mkdir()
    (folder / "quantised/unet.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelUnusable, match="this model does not support, because it has no trans"):
        load_generator(folder, GGUF)


def test_a_file_that_is_no_gguf_file_is_a_fault(tmp_path):
    folder = families.make_family("ernie-image", tmp_path / "model")
    (folder / "quantised").mkdir()
    for name in ("a.gguf", "b.gguf"):
        (folder / "quantised" / name).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    faults = [str(fault) for fault in check(folder)]

    assert any(text.startswith("quantised/a.gguf is a Git LFS pointer") for text in faults)
    assert "quantised/ has 2 files in GGUF, and one is loaded: keep the one to load" in faults


def nunchaku_folder(tmp_path, **config):
    folder = families.make_family("ernie-image", tmp_path / "model")
    shutil.copytree(folder / "transformer", folder / "quantised")
    path = folder / "quantised/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def test_weights_that_are_not_nunchakus_are_refused(tmp_path):
    with pytest.raises(ModelUnusable, match=r"config\.json does not say that its weights were"):
        load_generator(nunchaku_folder(tmp_path), NUNCHAKU)


def test_what_diffusers_needs_for_nunchaku_is_passed_on(tmp_path, monkeypatch):
    config = {"quant_method": "nunchaku_lite", **TARGETS}
    folder = nunchaku_folder(tmp_path, quantization_config=config)
    with pytest.raises(ModelUnusable, match=r"EASEL_QUANTISE is nunchaku_lite.*`kernels` package"):
        load_generator(folder, NUNCHAKU)
    monkeypatch.setattr("diffusers.utils.import_utils._kernels_available", True)
    with pytest.raises(ModelUnusable, match=r"which cannot be loaded here: .*CUDA-capable NVIDIA"):
        load_generator(folder, NUNCHAKU)
    # As on an H100, which has none of its kernels.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    with pytest.raises(
        ModelUnusable, match=r"not supported on Hopper.*set it to fp8, int8 or none"
    ):
        families_load(folder)


def families_load(folder):
    """Load the transformer alone: what follows would need the GPU that is pretended."""
    from easel.loading.quantised import load_quantised
    from easel.settings import Settings

    settings = Settings.from_environ(NUNCHAKU)
    return load_quantised(folder / "quantised", folder, settings, dtype=torch.float32)
