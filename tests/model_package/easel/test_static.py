"""A model that is compiled for one size, with a double of what loads it; the rest is real."""

import json
import shutil
import sys
from types import ModuleType

import pytest
from diffusers import StableDiffusionPipeline

from easel import static
from easel.defaults import Defaults
from easel.errors import ModelUnusable
from easel.load import load_generator
from easel.loading.compiled import is_compiled
from easel.settings import Settings
from easel.speed.speed import SpeedSettings
from tests.model_package.doubles.toolkit import Toolkit


class Compiled(StableDiffusionPipeline):
    """Stands for a compiled pipeline: it has a size, and an adapter in its weights."""

    accelerator = "Inferentia2"
    static_size = (72, 128)
    merged_lora = "watercolour:0.7"


@pytest.fixture
def folder(stand_in, tmp_path, monkeypatch):
    """A model's folder that says that it is compiled, and a module that loads it."""
    model = shutil.copytree(stand_in(), tmp_path / "model")
    path = model / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "neuron": {}}))
    module = ModuleType("neuron.pipeline")
    module.load = lambda _: Compiled.from_pretrained(stand_in())
    monkeypatch.setitem(sys.modules, "neuron", ModuleType("neuron"))
    monkeypatch.setitem(sys.modules, "neuron.pipeline", module)
    monkeypatch.setenv("EASEL_DEFAULTS", '{"steps": 2, "width": 72, "height": 128}')
    return model


def loaded_event(text):
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return next(line for line in lines if line["event"] == "model_loaded")


def test_it_paints_its_own_size_and_no_other(folder, capsys):
    toolkit = Toolkit(folder)
    assert toolkit.post({"prompt": "a cat"}, accept="image/png").status == 200
    assert loaded_event(capsys.readouterr().out)["device"] == "Inferentia2"
    for field, words in (("width", "must be 72 for this"), ("height", "must be 128 for this")):
        answer = toolkit.post({"prompt": "a cat", field: 256}, accept="image/png")
        assert (answer.status, answer.error["field"]) == (400, field)
        assert words in answer.error["message"]


def test_it_names_the_adapter_in_its_weights_and_refuses_others(folder):
    toolkit = Toolkit(folder)
    assert toolkit.post({"describe": True}).json()["merged_lora"] == "watercolour:0.7"
    answer = toolkit.post({"prompt": "a cat", "lora": "oil"}, accept="image/png")
    assert (answer.status, answer.error["field"]) == (400, "lora")
    assert "compiled with watercolour:0.7, and applies no other" in answer.error["message"]


def test_a_container_without_the_loader_says_where_to_serve_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "neuron.pipeline", None)
    with pytest.raises(ModelUnusable, match="serve it in Hugging Face's neuronx image"):
        load_generator(folder, {})


@pytest.mark.parametrize("place", ["loras", "merged_lora"])
def test_an_adapter_in_its_folder_ends_the_start(folder, place):
    (folder / place).mkdir()
    (folder / place / "oil.safetensors").write_bytes(b"")
    with pytest.raises(ModelUnusable, match=r"cannot apply adapters such as oil\.safetensors"):
        load_generator(folder, {})


def test_a_refiner_ends_the_start(folder, stand_in):
    shutil.copytree(stand_in(), folder / "refiner")
    with pytest.raises(ModelUnusable, match="cannot have a refiner"):
        load_generator(folder, {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EASEL_LORAS", "/opt/ml/loras"),
        ("EASEL_LORAS_FROM", "/opt/ml/loras"),
        ("EASEL_VAE_TILING", "on"),
        ("EASEL_DTYPE", "bf16"),
        ("EASEL_QUANTISE", "fp8"),
        ("EASEL_MERGED_LORA_ID", "somebody/lora"),
        ("EASEL_COMPILE", "full"),
        ("EASEL_STORAGE", "fp8"),
        ("EASEL_CHANNELS_LAST", "on"),
        ("EASEL_GUIDANCE_CUTOFF", "0.5"),
    ],
)
def test_a_setting_without_effect_is_named(name, value):
    environ = {name: value}
    settings, speed = Settings.from_environ(environ), SpeedSettings.from_environ(environ)
    with pytest.raises(ModelUnusable, match=f"^{name} has no effect"):
        static.refuse(settings, speed, [], [])


def test_settings_that_have_an_effect_are_taken():
    environ = {"EASEL_SAMPLER": "euler-a", "EASEL_COMPILE": "off", "EASEL_METADATA": "off"}
    static.refuse(Settings.from_environ(environ), SpeedSettings.from_environ(environ), [], [])


@pytest.mark.parametrize(
    ("defaults", "words"),
    [
        (Defaults(width=64, height=128), "width is 64, and the model is compiled for 72"),
        (Defaults(height=64), "height is 64, and the model is compiled for 128"),
        (Defaults(largest_area=4_096), "largest_area is 4096, and the model is compiled for 72 x"),
    ],
)
def test_defaults_of_another_size_are_refused(defaults, words):
    with pytest.raises(ModelUnusable, match=words):
        static.check_defaults(defaults, (72, 128))


def test_defaults_of_its_own_size_are_taken():
    static.check_defaults(Defaults(width=72, height=128, largest_area=72 * 128), (72, 128))
    static.check_defaults(Defaults(), (72, 128))


def test_a_model_of_weights_is_not_compiled(stand_in, tmp_path):
    assert not is_compiled(stand_in())
    assert not is_compiled(tmp_path)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{")
    assert not is_compiled(tmp_path)
