import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import easel_pipeline
from easel_errors import ModelUnusable
from easel_pipeline import find_folder, load_pipeline
from easel_settings import Settings
from tests.model_package.toolkit import Toolkit

WISH = {"prompt": "a cat", "seed": 7}


def load(folder, *, allow_pickle=False):
    return load_pipeline(
        folder, dtype=torch.float32, device=torch.device("cpu"), allow_pickle=allow_pickle
    )


def test_a_folder_with_only_16_bit_files_paints(stand_in):
    folder = stand_in(variant="fp16")
    assert [path.name for path in folder.glob("unet/*.safetensors")] == [
        "diffusion_pytorch_model.fp16.safetensors"
    ]
    answer = Toolkit(folder).post(WISH, accept="image/png")
    assert (answer.status, answer.body[:4]) == (200, b"\x89PNG")


def test_a_folder_with_16_bit_files_for_some_parts_only_paints(stand_in, tmp_path):
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    for part in ("unet", "text_encoder"):
        shutil.rmtree(tmp_path / part)
        shutil.copytree(stand_in(variant="fp16") / part, tmp_path / part)
    assert Toolkit(tmp_path).post(WISH, accept="image/png").status == 200


def test_pickled_weights_are_refused_unless_a_setting_trusts_them(stand_in, monkeypatch, capsys):
    folder = stand_in(pickled=True)
    assert not list(folder.rglob("*.safetensors"))
    assert Toolkit(folder).post(WISH, accept="image/png").status == 500
    assert "EASEL_ALLOW_PICKLE=on" in json.loads(capsys.readouterr().out.splitlines()[0])["error"]
    monkeypatch.setenv("EASEL_ALLOW_PICKLE", "on")
    assert Toolkit(folder).post(WISH, accept="image/png").status == 200


def test_the_models_safety_checker_is_kept(stand_in):
    assert load(stand_in(safety_checker="passes")).safety_checker is not None
    assert load(stand_in()).safety_checker is None


def test_sdxl_is_not_watermarked_whatever_is_installed(stand_in):
    assert load(stand_in(kind="sdxl")).watermark is None


def test_a_pipeline_that_auto_does_not_know_is_loaded_as_what_it_says_it_is(stand_in, monkeypatch):
    class Auto:
        @staticmethod
        def from_pretrained(*_, **__):
            raise ValueError("AutoPipeline can't find a pipeline linked to Strange for None")

    monkeypatch.setattr(easel_pipeline, "_auto_pipeline", lambda: Auto)
    assert type(load(stand_in())).__name__ == "StableDiffusionPipeline"


def test_where_auto_cannot_be_imported_the_model_is_loaded_all_the_same(stand_in, monkeypatch):
    monkeypatch.setattr(easel_pipeline, "_auto_pipeline", lambda: None)
    assert type(load(stand_in())).__name__ == "StableDiffusionPipeline"


@pytest.mark.parametrize("part", ["text_encoder", "safety_checker", "unet"])
def test_a_part_whose_weights_are_not_found_is_refused_and_not_left_random(
    stand_in, tmp_path, part
):
    shutil.copytree(stand_in(safety_checker="blocks"), tmp_path, dirs_exist_ok=True)
    (path,) = (tmp_path / part).glob("*.safetensors")
    weights = {f"other.{name}": weight for name, weight in load_file(path).items()}
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(ModelUnusable, match=r"lacks weights|cannot load"):
        load(tmp_path)


def broken_index(folder):
    (folder / "model_index.json").write_text('{"_class_name": "NoSuchPipeline"}')


def broken_weights(folder):
    next(folder.glob("unet/*.safetensors")).write_bytes(b"not weights")


def missing_part(folder):
    shutil.rmtree(folder / "vae")


@pytest.mark.parametrize("damage", [broken_index, broken_weights, missing_part])
def test_a_damaged_folder_is_refused(stand_in, tmp_path, damage):
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    damage(tmp_path)
    with pytest.raises(ModelUnusable, match="cannot load"):
        load(tmp_path)


def test_the_model_folder_comes_before_the_hub(stand_in):
    folder = stand_in()
    assert find_folder(folder, Settings(model_id="somebody/else")) == folder


def test_without_a_model_and_without_a_name_it_says_which_variable_to_set(tmp_path):
    with pytest.raises(ModelUnusable, match="EASEL_MODEL_ID=stabilityai/sd-turbo"):
        find_folder(tmp_path, Settings())
