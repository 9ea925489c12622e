from __future__ import annotations

import re

import pytest

from endpoint import catalogue


def test_every_model_has_a_repository_and_its_familys_defaults() -> None:
    models = catalogue.read()
    assert next(iter(models)) == "sd"
    for name, model in models.items():
        assert name == catalogue.as_name(name)
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", model.repository)
        assert set(model.defaults) == {"steps", "guidance_scale", "width", "height"}


def test_a_model_is_found_by_its_name_and_by_its_repository() -> None:
    assert catalogue.find("sd-turbo") == catalogue.find("stabilityai/sd-turbo")
    assert catalogue.find("nobody/nothing") is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("sd-turbo", "sd-turbo"),
        ("My Model (v2)", "My-Model-v2"),
        ("_hidden", "hidden"),
        ("..", "model"),
        ("模型", "model"),
        ("x" * 100, "x" * 63),
    ],
)
def test_anything_can_be_made_a_name(text: str, name: str) -> None:
    assert catalogue.as_name(text) == name
