"""LoRA adapters in requests, through the four functions."""

import shutil
import threading

from tests.model_package.doubles.lora_files import (
    random_layers,
    write_kohya,
)
from tests.model_package.doubles.toolkit import Toolkit
from tests.model_package.easel.lora.helpers import REQUEST


def test_an_unknown_name_is_a_400_with_the_available_names(stand_in, pipelines, tmp_path):
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "loras").mkdir()
    for name in ("pixel art!", "watercolour"):
        write_kohya(tmp_path / "loras" / f"{name}.safetensors", random_layers(pipelines["sd"][0]))
    toolkit = Toolkit(tmp_path)
    response = toolkit.post({**REQUEST, "lora": "watercolor"})
    assert response.status == 400
    assert response.error == {
        "code": "invalid_request",
        "message": "lora: unknown adapter watercolor; available: pixel-art-98c2ea, watercolour",
        "field": "lora",
    }
    assert Toolkit(stand_in()).post({**REQUEST, "lora": "a"}).error["message"] == (
        "lora: unknown adapter a; this model has no adapters"
    )


def test_a_description_lists_the_names_and_the_fields_of_the_model(stand_in, pipelines, tmp_path):
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "loras").mkdir()
    for name in "ba":
        write_kohya(tmp_path / "loras" / f"{name}.safetensors", random_layers(pipelines["sd"][0]))
    toolkit = Toolkit(tmp_path)
    for accept in (None, "image/png"):
        description = toolkit.post({"describe": True}, accept=accept).json()
        assert description.pop("speed")["sampler"] == "own"
        assert description == {
            "model": None,
            "fields": ["guidance_scale", "height", "negative_prompt", "steps", "width"],
            "defaults": {"steps": 2, "guidance_scale": 5.0, "width": 64, "height": 64},
            "multiple": 8,
            "limits": {},
            "loras": ["a", "b"],
        }
    assert toolkit.post({"describe": False}).error["field"] == "describe"


def test_a_setting_names_a_folder_of_adapters(stand_in, pipelines, tmp_path, monkeypatch):
    write_kohya(tmp_path / "a.safetensors", random_layers(pipelines["sd"][0]))
    monkeypatch.setenv("EASEL_LORAS", str(tmp_path))
    monkeypatch.setenv("EASEL_METADATA", "off")  # which names the adapters, too
    toolkit = Toolkit(stand_in())
    bodies = {
        toolkit.post({**REQUEST, "lora": lora}, accept="image/png").body for lora in ("", "a")
    }
    assert len(bodies) == 2


def test_threads_with_different_adapters_get_what_they_would_get_alone(
    stand_in, pipelines, tmp_path, monkeypatch
):
    monkeypatch.setenv("EASEL_METADATA", "off")
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "loras").mkdir()
    for seed, name in enumerate("ab"):
        layers = random_layers(pipelines["sd"][0], seed=seed)
        write_kohya(tmp_path / "loras" / f"{name}.safetensors", layers)
    toolkit = Toolkit(tmp_path)
    requests = [{**REQUEST, "lora": lora} for lora in ("", "a", "b:0.5", "b,a:-1")]
    alone = [toolkit.post(request, accept="image/png").body for request in requests]
    assert len(set(alone)) == 4
    together = {}

    def ask(place):
        together[place] = toolkit.post(requests[place % 4], accept="image/png").body

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[place] for place in range(12)] == alone * 3
