"""A LoRA that belongs to the model is merged into its weights, from its folder or from the hub."""

from __future__ import annotations

import shutil

import pytest
import torch

from easel.errors import ModelUnusable
from easel.load import load_generator
from easel.loading.merged_lora import find_merged_lora
from easel.loading.pipeline import load_pipeline
from easel.model_folder.check import check
from easel.model_folder.files import select
from easel.settings import Settings
from generation import GenerationRequest
from tests.model_package.conftest import QUICK
from tests.model_package.doubles.lora_files import random_layers, write_kohya

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}
ENVIRON = {"EASEL_DTYPE": "fp32", "EASEL_COMPILE": "off", "EASEL_DEFAULTS": QUICK}


def write(path, folder, seed=0, parts=("unet",)):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_kohya(path, random_layers(load_pipeline(folder, **HOW), seed=seed, parts=parts, size=0.1))
    return path


def paint(generator, lora=""):
    return generator.generate(GenerationRequest(prompt="a cat", seed=7, lora=lora)).pixels


@pytest.fixture
def model(stand_in, tmp_path):
    return shutil.copytree(stand_in(kind="sdxl"), tmp_path / "model")


def test_it_changes_every_picture_as_the_adapter_would(model, tmp_path):
    path = write(model / "loras/few.safetensors", model)
    write(model / "loras/style.safetensors", model, seed=1)
    plain = load_generator(model, ENVIRON)
    shutil.copy(path, write(model / "merged_lora/few.safetensors", model))
    merged = load_generator(model, ENVIRON)

    assert (paint(merged) == paint(plain, "few:1")).all()
    assert (paint(merged) != paint(plain)).any()
    both, one_after_the_other = paint(plain, "few:1,style:1"), paint(merged, "style:1")
    assert abs(both.astype(int) - one_after_the_other).max() <= 1
    assert (paint(merged) == paint(plain, "few:1")).all()


@pytest.mark.parametrize("form", ["fp8", "int8"])
def test_it_is_merged_before_the_weights_are_rounded(model, form):
    write(model / "merged_lora/few.safetensors", model)
    write(model / "loras/style.safetensors", model, seed=1)
    whole = load_generator(model, ENVIRON)
    rounded = load_generator(model, {**ENVIRON, "EASEL_QUANTISE": form})
    first = paint(rounded)

    assert abs(first.astype(int) - paint(whole)).mean() < 4
    styled = paint(whole, "style:1").astype(int)
    assert abs(paint(rounded, "style:1").astype(int) - styled).mean() < abs(styled - first).mean()
    assert (paint(rounded) == first).all()


def test_the_file_belongs_to_the_model_and_a_second_one_is_a_fault(model):
    write(model / "merged_lora/few.safetensors", model)
    assert "merged_lora/few.safetensors" in select(model).files
    assert check(model) == []
    write(model / "merged_lora/many.safetensors", model)

    assert [str(fault) for fault in check(model)] == [
        "merged_lora/ has 2 files, and one LoRA is merged: keep the one to merge"
    ]
    with pytest.raises(ModelUnusable, match="has 2 files, and one LoRA is merged; keep that one"):
        load_generator(model, ENVIRON)


def test_one_that_does_not_fit_is_refused_by_name(model, stand_in):
    write(model / "merged_lora/few.safetensors", stand_in())
    with pytest.raises(ModelUnusable, match=r"the LoRA few\.safetensors cannot be merged: it does"):
        load_generator(model, ENVIRON)


def test_numbers_that_are_not_finite_are_refused(model):
    layers = random_layers(load_pipeline(model, **HOW), parts=("unet",))
    (model / "merged_lora").mkdir()
    name = next(iter(layers))
    layers[name][0].fill_(float("nan"))
    write_kohya(model / "merged_lora/few.safetensors", layers)
    with pytest.raises(ModelUnusable, match=r"the LoRA few\.safetensors cannot be merged"):
        load_generator(model, ENVIRON)


def test_a_repository_without_a_file_is_a_wrong_setting(model):
    settings = Settings.from_environ({"EASEL_MERGED_LORA_ID": "somebody/few-steps"})
    with pytest.raises(ModelUnusable, match="EASEL_MERGED_LORA_FILE is not set to a file in it"):
        find_merged_lora(model, model, settings)
    assert find_merged_lora(model, model, Settings()) is None
