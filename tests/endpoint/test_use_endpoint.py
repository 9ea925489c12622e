from __future__ import annotations

import json

import pytest

from endpoint import create_endpoint, use_endpoint
from tests.endpoint.world import IMAGE, PNG, World


def create(world: World, model: str) -> None:
    assert world.run(create_endpoint.main, "--model", model, "--image", IMAGE, "--yes") == 0


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_a_prompt_becomes_a_png_file_real_time_or_asynchronous(world, tmp_path, capsys, model):
    create(world, model)
    capsys.readouterr()
    output = tmp_path / "cat.png"
    arguments = ("a cat", "--output", str(output), "--seed", "7", "--steps", "3", "--json")
    assert world.run(use_endpoint.main, *arguments) == 0
    assert output.read_bytes() == PNG
    report = json.loads(capsys.readouterr().out)
    assert report["request"] == {"prompt": "a cat", "format": "png", "seed": 7, "steps": 3}
    assert report["bytes"] == len(PNG)


def test_several_models_have_to_be_told_apart(world, capsys):
    create(world, "sd")
    create(world, "sd-turbo")
    assert world.run(use_endpoint.main, "a cat") == 1
    assert "available: sd, sd-turbo" in capsys.readouterr().err


def test_a_missing_endpoint_is_named(world, capsys):
    assert world.run(use_endpoint.main, "a cat", "--model", "sd") == 1
    assert "There is no endpoint easel-main-sd" in capsys.readouterr().err


def test_the_containers_own_words_are_passed_on(world, capsys):
    create(world, "sd")
    said = {"OriginalStatusCode": 422, "OriginalMessage": "width: must be a multiple of 8"}
    world.fail("InvokeEndpoint", "ModelError", extra=said)
    assert world.run(use_endpoint.main, "a cat", "--width", "65") == 1
    assert "must be a multiple of 8" in capsys.readouterr().err


def test_a_model_that_is_still_loading_is_called_that(world, capsys):
    create(world, "sd")
    world.fail("InvokeEndpoint", "ModelNotReadyException", "not ready")
    assert world.run(use_endpoint.main, "a cat") == 1
    assert "still being loaded" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_a_failure(world, tmp_path, capsys):
    create(world, "sd")
    assert world.run(use_endpoint.main, "a cat", "--output", str(tmp_path / "no" / "x.png")) == 1
    assert "cannot be written" in capsys.readouterr().err
