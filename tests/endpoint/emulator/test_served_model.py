from __future__ import annotations

import json

import pytest

from endpoint.emulator import served_model
from endpoint.emulator.served_model import NoModel, ServedModel, choose, require_usable
from tests.model_folders import write_file, write_pipeline


@pytest.fixture(autouse=True)
def _nothing_bundled(tmp_path, monkeypatch):
    monkeypatch.setattr(served_model, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(served_model, "DEMO", tmp_path / "demo")


def test_a_folder_is_served_from_where_it_is(tmp_path):
    folder = tmp_path / "My Model"
    folder.mkdir()
    assert choose(str(folder)) == ServedModel("my-model", folder.resolve())


def test_a_name_of_the_catalogue_is_fetched_by_the_container_with_its_defaults():
    model = choose("sd-turbo")
    assert model.name == "sd-turbo"
    assert model.environment["EASEL_MODEL_ID"] == "stabilityai/sd-turbo"
    assert json.loads(model.environment["EASEL_DEFAULTS"])["steps"] == 1
    assert list(model.folder.iterdir()) == []


def test_a_repository_of_the_catalogue_has_its_name_and_defaults_too():
    assert choose("stabilityai/sd-turbo") == choose("sd-turbo")


def test_any_repository_is_fetched_by_the_container():
    model = choose("some-body/tiny.model")
    assert model.name == "tiny-model"
    assert dict(model.environment) == {"EASEL_MODEL_ID": "some-body/tiny.model"}


@pytest.mark.parametrize("given", ["./missing", "/missing/folder", "~/x", "missing", "a/b/c"])
def test_an_unknown_model_lists_the_known_ones(given):
    with pytest.raises(NoModel, match="sd-turbo"):
        choose(given)


def test_the_bundled_model_is_the_default(tmp_path):
    (tmp_path / "demo").mkdir()
    assert choose(None) == ServedModel("sd", tmp_path / "demo")


def test_without_a_bundled_model_one_must_be_named():
    with pytest.raises(NoModel, match="--model"):
        choose(None)


def test_a_file_says_how_to_convert_it(tmp_path):
    with pytest.raises(NoModel, match=r"single-file.*convert\.py"):
        choose(str(write_file(tmp_path / "dream.safetensors")))


def test_a_folder_that_the_container_would_refuse_is_said_at_once(tmp_path, capsys):
    model = ServedModel("tiny", write_pipeline(tmp_path))
    write_file(tmp_path / "loras" / "a.safetensors").write_text("version https://git-lfs")
    require_usable(model, {})
    assert "loras/a.safetensors is a Git LFS pointer" in capsys.readouterr().err
    unet = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_suffix(".bin"))
    require_usable(model, {"EASEL_ALLOW_PICKLE": "on"})
    with pytest.raises(NoModel, match=r"unet/diffusion_pytorch_model\.bin is pickled"):
        require_usable(model, {})


def test_an_empty_folder_needs_a_repository(tmp_path):
    require_usable(ServedModel("tiny", tmp_path), {"EASEL_MODEL_ID": "some/model"})
    with pytest.raises(NoModel, match=r"model_index\.json is missing"):
        require_usable(ServedModel("tiny", tmp_path), {})
