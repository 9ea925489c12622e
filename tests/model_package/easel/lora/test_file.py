import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from easel.lora.adapters import Loras
from easel.lora.file import LoraFile, LoraUnusable, find_files
from generation import GenerationRequest, InvalidField
from tests.model_package.doubles.lora_files import (
    random_layers,
    write_diffusers,
    write_kohya,
    write_old_diffusers,
)
from tests.model_package.doubles.toolkit import Toolkit
from tests.model_package.easel.lora.helpers import (
    REQUEST,
    generate,
    generator,
)


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
@pytest.mark.parametrize("alpha", [None, 1, 16])
def test_both_formats_give_the_same_picture(pipelines, tmp_path, kind, alpha):
    layers = random_layers(pipelines[kind][0], size=0.1)
    write_diffusers(tmp_path / "d", layers, alpha=alpha)
    write_kohya(tmp_path / "k", layers, alpha=alpha, single=kind == "sd")
    by = generator(pipelines[kind], d=tmp_path / "d", k=tmp_path / "k")
    assert (generate(by, "d") == generate(by, "k")).all()
    assert (generate(by, "d") != generate(by)).any()
    by._loras.restore()


@pytest.mark.parametrize("forms", [("lora.down", "lora.up"), ("lora_A.default", "lora_B.default")])
def test_the_forms_of_diffusers_names_give_the_same_picture(pipelines, tmp_path, forms):
    layers = random_layers(pipelines["sdxl"][0])
    write_diffusers(tmp_path / "new", layers)
    write_diffusers(tmp_path / "other", layers, forms=forms)
    by = generator(pipelines["sdxl"], new=tmp_path / "new", other=tmp_path / "other")
    assert (generate(by, "new") == generate(by, "other")).all()
    by._loras.restore()


def test_files_from_before_peft_are_read(pipelines, tmp_path):
    layers = random_layers(pipelines["sd"][0], parts=("unet",))
    write_diffusers(tmp_path / "new", layers)
    write_old_diffusers(tmp_path / "old", layers)
    assert len(LoraFile(tmp_path / "old").changes) == len(layers)
    by = generator(pipelines["sd"], new=tmp_path / "new", old=tmp_path / "old")
    assert (generate(by, "new") == generate(by, "old")).all()
    by._loras.restore()


def broken(path, layers):
    path.write_bytes(b"not a file of tensors")


def cut(path, layers):
    write_kohya(path, layers)
    path.write_bytes(path.read_bytes()[:-10])


def empty(path, layers):
    save_file({}, path)


def pickled(path, layers):
    torch.save({"a": torch.zeros(1)}, path)


def half(path, layers):
    write_kohya(path, layers)
    tensors = load_file(path)
    tensors.pop(next(key for key in tensors if key.endswith("lora_up.weight")))
    save_file(tensors, path)


def another_model(path, layers):
    write_kohya(path, {("unet", "down_blocks.7.attn.to_q"): next(iter(layers.values()))})


def another_size(path, layers):
    name = next(iter(layers))
    write_kohya(path, {name: (torch.zeros(4, 640), torch.zeros(640, 4))})


def wrong_rank(path, layers):
    name = next(iter(layers))
    write_kohya(path, {name: (torch.zeros(4, 64), torch.zeros(64, 8))})


def another_method(path, layers):
    save_file({"lora_unet_down_blocks_0_attn_to_q.hada_w1_a": torch.zeros(4, 4)}, path)


def dora(path, layers):
    write_kohya(path, layers)
    save_file({**load_file(path), "lora_unet_x.dora_scale": torch.zeros(4)}, path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (broken, "it is not a LoRA in a safetensors file"),
        (cut, "it is not a LoRA in a safetensors file"),
        (empty, "it is empty"),
        (pickled, "it is not a LoRA in a safetensors file"),
        (half, "it has only one half of "),
        (another_model, "it does not fit this model: unet down_blocks_7_attn_to_q"),
        (another_size, "it does not fit this model: unet "),
        (wrong_rank, "do not multiply"),
        (another_method, "hada_w1_a, which is not part of a plain LoRA"),
        (dora, "dora_scale, which is not part of a plain LoRA"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_few_words_and_does_no_harm(
    stand_in, pipelines, tmp_path, capsys, damage, reason
):
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "loras").mkdir()
    layers = random_layers(pipelines["sd"][0])
    damage(tmp_path / "loras" / "bad.safetensors", layers)
    write_kohya(tmp_path / "loras" / "good.safetensors", layers)
    toolkit = Toolkit(tmp_path)
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line.get("loras")) for line in logged] == [
        ("lora_unusable", None),
        ("model_loaded", ["good"]),
    ]
    assert reason in logged[0]["error"]
    response = toolkit.post({**REQUEST, "lora": "bad:0.5"})
    assert (response.status, response.error["field"]) == (400, "lora")
    assert reason in response.error["message"]
    assert len(response.error["message"]) < 200
    assert str(tmp_path) not in response.body
    assert toolkit.post({**REQUEST, "lora": "good"}).status == 200


def test_a_text_encoder_that_the_model_lacks_is_named(pipelines, tmp_path):
    write_kohya(
        tmp_path / "a", random_layers(pipelines["sdxl"][0], parts=("unet", "text_encoder_2"))
    )
    with pytest.raises(InvalidField, match="has no text_encoder_2|does not fit"):
        Loras([("a", tmp_path / "a")], pipelines["sd"]).check("a")


def test_names_are_made_of_the_files_names(tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    for name in ("Ink & wash v1.0", "_x", "x", "日本", "y" * 80):
        (tmp_path / f"{name}.safetensors").touch()
    (tmp_path / "a.bin").touch()
    (more / "x.safetensors").touch()
    names = [name for name, _ in find_files([tmp_path, more, tmp_path / "none"])]
    assert sorted(names) == sorted(["Ink-wash-v1.0", "x", "x-2", "lora", "y" * 63, "x-3"])
    for name in names:
        assert GenerationRequest(prompt="a", lora=name).lora == f"{name}:1"


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(LoraUnusable):
        LoraFile(tmp_path / "none")
