import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from easel.model_folder.check import check
from model_package.convert import main
from tests.model_folders import write_pipeline
from tests.model_package.doubles.single_file import make_single_file
from tests.model_package.doubles.toolkit import Toolkit

REQUEST = {"prompt": "a cat", "seed": 7, "guidance_scale": 5.0}


@pytest.fixture
def checkpoint(stand_in, tmp_path):
    return make_single_file(stand_in(), tmp_path / "dream.safetensors")


def test_a_single_file_becomes_a_folder_with_the_same_model(stand_in, tmp_path, checkpoint):
    source, folder = stand_in(), tmp_path / "models" / "dream"
    arguments = [str(checkpoint), str(folder), "--config", str(source), "--dtype", "fp32"]

    assert main(arguments) == 0
    assert check(folder) == []
    expected = Toolkit(source).post(REQUEST, accept="image/png")
    assert expected.status == 200
    assert Toolkit(folder).post(REQUEST, accept="image/png").body == expected.body
    # As published models name them, for versions of transformers before 5.
    names = load_file(folder / "text_encoder" / "model.safetensors")
    assert {name.split(".")[0] for name in names} == {"text_model"}
    assert [path.name for path in folder.parent.iterdir()] == ["dream"]


def test_the_weights_have_16_bits_unless_others_are_asked_for(stand_in, tmp_path, checkpoint):
    folder = tmp_path / "dream"
    assert main([str(checkpoint), str(folder), "--config", str(stand_in())]) == 0
    (path,) = folder.glob("unet/*.safetensors")
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    assert check(folder) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        (b"", "is empty"),
        (b"no header at all", "has no safetensors header"),
        (None, "is not a file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, capsys, content, words):
    file = tmp_path / "dream.safetensors"
    if content is not None:
        file.write_bytes(content)
    assert main([str(file), str(tmp_path / "out"), "--config", str(tmp_path)]) == 1
    assert f"Easel: {file} {words}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_pickled_file_is_refused(tmp_path, capsys):
    (tmp_path / "dream.ckpt").write_bytes(b"PK")
    assert main([str(tmp_path / "dream.ckpt"), str(tmp_path / "out")]) == 1
    assert "is pickled: download its .safetensors version" in capsys.readouterr().err


def test_a_folder_with_files_is_not_overwritten(tmp_path, checkpoint, capsys):
    assert main([str(checkpoint), str(tmp_path)]) == 1
    assert "is not an empty folder" in capsys.readouterr().err


def test_an_adapter_is_no_checkpoint(tmp_path, capsys):
    file = tmp_path / "pixel.safetensors"
    save_file({"lora_unet_mid.lora_up.weight": torch.zeros(2, 2)}, file)
    assert main([str(file), str(tmp_path / "out")]) == 1
    assert "a LoRA adapter belongs into loras/" in capsys.readouterr().err


def test_without_a_network_the_configuration_can_be_named(tmp_path, checkpoint, capsys):
    assert main([str(checkpoint), str(tmp_path / "out")]) == 1
    assert "with --config" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["StableDiffusionPipeline", "KandinskyPipeline", "NoPipeline"])
def test_a_configuration_that_does_not_fit_is_refused(tmp_path, checkpoint, capsys, kind):
    config = write_pipeline(tmp_path / "config", kind)
    assert main([str(checkpoint), str(tmp_path / "out"), "--config", str(config)]) == 1
    assert kind in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("config", ["missing", "a/b/c", __file__])
def test_a_configuration_must_be_a_folder_or_a_repository(tmp_path, checkpoint, capsys, config):
    assert main([str(checkpoint), str(tmp_path / "out"), "--config", config]) == 1
    assert "is neither a folder nor a repository" in capsys.readouterr().err


def test_it_runs_as_a_file(tmp_path):
    script = Path(__file__).parents[2] / "model_package" / "convert.py"
    command = [sys.executable, str(script), "missing.safetensors", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "missing.safetensors is not a file" in done.stderr
