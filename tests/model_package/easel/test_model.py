import gc
import json

import pytest

from easel.defaults import Defaults
from easel.errors import ModelUnusable
from easel.generator import ImageGenerator
from easel.model import Model
from tests.model_package.doubles.pipelines import PlainPipeline
from tests.model_package.doubles.toolkit import Toolkit

STEPS = ["imports", "find", "weights", "to_device", "loras", "speed", "warm_up"]


class Loader:
    """Fails a given number of times, then loads."""

    def __init__(self, failures):
        self.failures = failures
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.failures:
            raise ModelUnusable("the hub does not response")
        return ImageGenerator(PlainPipeline(), Defaults())


def test_a_model_is_loaded_once():
    load = Loader(failures=0)
    model = Model(load)
    assert model.try_to_load() is None
    assert model.generator() is model.generator()
    assert load.calls == 1


def test_a_failure_is_not_kept():
    load = Loader(failures=1)
    model = Model(load)
    assert isinstance(model.try_to_load(), ModelUnusable)
    assert isinstance(model.generator(), ImageGenerator)
    assert load.calls == 2


def test_a_server_that_needs_the_model_at_once_does_not_load_it_twice():
    load = Loader(failures=1)
    model = Model(load)
    failure = model.try_to_load()
    with pytest.raises(ModelUnusable) as raised:
        model.loaded()
    assert raised.value is failure
    assert load.calls == 1


def test_a_request_to_a_model_that_cannot_be_loaded_gets_the_error():
    model = Model(Loader(failures=2))
    assert isinstance(model.try_to_load(), ModelUnusable)
    with pytest.raises(ModelUnusable, match="the hub does not response"):
        model.generator()


def test_what_was_loaded_is_logged(stand_in, monkeypatch, capsys):
    monkeypatch.setenv("EASEL_DTYPE", "fp32")
    Toolkit(stand_in())
    logged = json.loads(capsys.readouterr().out)
    steps = logged.pop("steps")
    assert list(steps) == STEPS
    assert logged.pop("seconds") == pytest.approx(sum(steps.values()), abs=0.01)
    assert logged.pop("software").startswith("diffusers ")
    assert logged.pop("speed")["steps_on_host"] == "on"
    assert logged == {
        "event": "model_loaded",
        "pipeline": "StableDiffusionPipeline",
        "model": None,
        "refiner": None,
        "loras": [],
        "device": "cpu",
        "dtype": "float32",
    }


def test_a_refiners_steps_are_added_to_those_of_the_base(stand_in, monkeypatch, capsys):
    monkeypatch.setenv("EASEL_DTYPE", "fp32")
    Toolkit(stand_in(kind="ensemble"))
    logged = json.loads(capsys.readouterr().out)
    assert logged["refiner"] == "StableDiffusionXLImg2ImgPipeline"
    assert list(logged["steps"]) == STEPS


def test_a_model_that_is_loaded_leaves_the_collector_running(stand_in):
    Toolkit(stand_in())
    assert gc.isenabled()


def test_a_model_that_cannot_be_loaded_leaves_the_collector_running(tmp_path):
    Toolkit(tmp_path)
    assert gc.isenabled()
