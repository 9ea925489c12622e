import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

import easel.loading.pipeline
from easel.errors import ModelUnusable
from easel.loading.pipeline import find_folder, load_pipeline
from easel.settings import Settings
from easel.startup.quiet import without_warnings
from tests.model_package.doubles.toolkit import Toolkit

CODE = Path(__file__).parents[4] / "model_package" / "code"
REQUEST = {"prompt": "a cat", "seed": 7}


def load(folder, *, allow_pickle=False):
    return load_pipeline(
        folder, dtype=torch.float32, device=torch.device("cpu"), allow_pickle=allow_pickle
    )


def test_a_folder_with_only_16_bit_files_generates(stand_in):
    folder = stand_in(variant="fp16")
    assert [path.name for path in folder.glob("unet/*.safetensors")] == [
        "diffusion_pytorch_model.fp16.safetensors"
    ]
    response = Toolkit(folder).post(REQUEST, accept="image/png")
    assert (response.status, response.body[:4]) == (200, b"\x89PNG")


def test_a_folder_with_16_bit_files_for_some_parts_only_generates(stand_in, tmp_path):
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    for part in ("unet", "text_encoder"):
        shutil.rmtree(tmp_path / part)
        shutil.copytree(stand_in(variant="fp16") / part, tmp_path / part)
    assert Toolkit(tmp_path).post(REQUEST, accept="image/png").status == 200


def test_pickled_weights_are_refused_unless_a_setting_trusts_them(stand_in, monkeypatch, capsys):
    folder = stand_in(pickled=True)
    assert not list(folder.rglob("*.safetensors"))
    assert Toolkit(folder).post(REQUEST, accept="image/png").status == 500
    assert "EASEL_ALLOW_PICKLE=on" in json.loads(capsys.readouterr().out.splitlines()[0])["error"]
    monkeypatch.setenv("EASEL_ALLOW_PICKLE", "on")
    assert Toolkit(folder).post(REQUEST, accept="image/png").status == 200


def test_the_models_safety_checker_is_kept(stand_in):
    assert load(stand_in(safety_checker="passes")).safety_checker is not None
    assert load(stand_in()).safety_checker is None


def test_sdxl_is_not_watermarked_whatever_is_installed(stand_in):
    assert load(stand_in(kind="sdxl")).watermark is None


needs_auto = pytest.mark.skipif(
    easel.loading.pipeline._auto_pipeline() is None,
    reason="diffusers 0.38 with transformers 4.51",
)


def as_image_to_image(folder, tmp_path):
    """Copy a model and change its index to an image-to-image class."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionImg2ImgPipeline"
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    return tmp_path


@needs_auto
def test_a_model_that_says_another_task_is_loaded_as_text_to_image(stand_in, tmp_path):
    folder = as_image_to_image(stand_in(), tmp_path)
    assert type(load(folder)).__name__ == "StableDiffusionPipeline"


def test_a_pipeline_that_auto_does_not_know_is_loaded_as_what_it_says_it_is(
    stand_in, tmp_path, monkeypatch
):
    class Auto:
        @staticmethod
        def from_pretrained(*_, **__):
            raise ValueError("AutoPipeline can't find a pipeline linked to Strange for None")

    monkeypatch.setattr(easel.loading.pipeline, "_auto_pipeline", lambda: Auto)
    folder = as_image_to_image(stand_in(), tmp_path)
    assert type(load(folder)).__name__ == "StableDiffusionImg2ImgPipeline"


def test_where_auto_cannot_be_imported_the_model_is_loaded_all_the_same(
    stand_in, tmp_path, monkeypatch
):
    monkeypatch.setattr(easel.loading.pipeline, "_auto_pipeline", lambda: None)
    folder = as_image_to_image(stand_in(), tmp_path)
    assert type(load(folder)).__name__ == "StableDiffusionImg2ImgPipeline"


@needs_auto
def test_what_is_text_to_image_itself_is_so_to_diffusers_too():
    from diffusers.pipelines import auto_pipeline

    supported = auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()
    # ERNIE-Image has no automatic class in 0.42.
    known = {kind.__name__ for kind in supported} | {"ErnieImagePipeline"}
    assert known >= easel.loading.pipeline.TEXT_TO_IMAGE


def test_loading_what_is_text_to_image_itself_does_not_import_every_pipeline(stand_in):
    script = (
        "import sys, torch, easel.loading.pipeline, pathlib\n"
        "how = dict(dtype=torch.float32, device=torch.device('cpu'), allow_pickle=False)\n"
        "for folder in sys.argv[1:]:\n"
        "    easel.loading.pipeline.load_pipeline(pathlib.Path(folder), **how)\n"
        "print([name for name in sys.modules if name.startswith('diffusers.pipelines.')\n"
        "       and ('flux' in name or 'auto' in name)])\n"
    )
    folders = [str(stand_in(kind=kind)) for kind in ("sd", "sdxl")]
    command = [sys.executable, "-W", "ignore", "-c", script, *folders]
    environ = {**os.environ, "PYTHONPATH": str(CODE)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    assert done.stdout == "[]\n", done.stderr


def test_a_loaded_model_generates_what_plain_diffusers_generates(stand_in):
    def generate(pipeline):
        noise = torch.Generator().manual_seed(7)
        how = {"num_inference_steps": 2, "output_type": "np", "generator": noise}
        return pipeline("a cat", width=64, height=64, **how).images

    plain = diffusers.StableDiffusionXLPipeline.from_pretrained(stand_in(kind="sdxl"))
    with without_warnings():
        assert (generate(load(stand_in(kind="sdxl"))) == generate(plain)).all()


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
