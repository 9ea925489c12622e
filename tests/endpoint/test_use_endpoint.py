from __future__ import annotations

import json

import pytest

from endpoint import use_endpoint
from tests.endpoint.doubles import create
from tests.endpoint.world import PNG


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_a_prompt_becomes_a_png_file_real_time_or_asynchronous(world, tmp_path, capsys, model):
    assert create(world, model=model) == 0
    capsys.readouterr()
    output = tmp_path / "cat.png"
    arguments = ("a cat", "--output", str(output), "--seed", "7", "--steps", "3", "--json")
    assert world.run(use_endpoint.main, *arguments) == 0
    assert output.read_bytes() == PNG
    report = json.loads(capsys.readouterr().out)
    assert report["request"] == {"prompt": "a cat", "format": "png", "seed": 7, "steps": 3}
    assert report["bytes"] == len(PNG)


def test_several_models_require_a_choice(world, capsys):
    assert create(world) == 0
    assert create(world, model="sd-turbo") == 0
    assert world.run(use_endpoint.main, "a cat") == 2
    assert "available: sd, sd-turbo" in capsys.readouterr().err


def test_a_missing_endpoint_is_named(world, capsys):
    assert world.run(use_endpoint.main, "a cat", "--model", "sd") == 1
    assert "There is no endpoint easel-main-sd" in capsys.readouterr().err


def test_the_containers_own_message_is_passed_on(world, capsys):
    assert create(world) == 0
    rejected = {"OriginalStatusCode": 422, "OriginalMessage": "width: must be a multiple of 8"}
    world.fail("InvokeEndpoint", "ModelError", extra=rejected)
    assert world.run(use_endpoint.main, "a cat", "--width", "65") == 1
    assert "must be a multiple of 8" in capsys.readouterr().err


def test_a_model_that_is_still_loading_is_reported_as_such(world, capsys):
    assert create(world) == 0
    world.fail("InvokeEndpoint", "ModelNotReadyException", "not ready")
    assert world.run(use_endpoint.main, "a cat") == 1
    assert "still being loaded" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_a_failure(world, tmp_path, capsys):
    assert create(world) == 0
    assert world.run(use_endpoint.main, "a cat", "--output", str(tmp_path / "no" / "x.png")) == 1
    assert "cannot be written" in capsys.readouterr().err
