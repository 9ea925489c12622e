"""What a model measures while it warms up, and the engine that results from it."""

import json

import pytest
import torch

import inference
from easel.batching import measure
from easel.batching.measure import make_engine
from easel.defaults import Defaults
from easel.errors import SettingInvalid
from easel.generator import ImageGenerator
from easel.speed.speed import Speed, SpeedSettings
from tests.model_package.doubles.pipelines import PlainPipeline
from tests.model_package.easel.batching.runs import (
    Caller,
    paint,
    pipelines,
    request,
    run,
)


def engine(batch, pipeline=None):
    settings = SpeedSettings.from_environ({"EASEL_BATCH": batch})
    defaults = Defaults(width=64, height=64, steps=4)
    return make_engine(
        ImageGenerator(pipeline or pipelines("sd")[0], defaults, speed=Speed([], settings))
    )


@pytest.fixture
def seconds(monkeypatch):
    """Return a function that sets how long a step takes, by size."""

    def set_seconds(by_size):
        ticks = iter(range(10**9))
        now = [0.0]

        def clock():
            next(ticks)
            return now[0]

        perform = measure.Engine._perform

        def performing(self, runs):
            now[0] += by_size[len(runs)] if runs[0].call.part != "vae" else 0.05
            return perform(self, runs)

        monkeypatch.setattr(measure.Engine, "_perform", performing)
        monkeypatch.setattr(measure, "_clock", clock)

    return set_seconds


@pytest.mark.parametrize(
    ("by_size", "capacity"),
    [
        ({1: 0.1, 2: 0.1, 4: 0.1, 8: 0.1}, 8),
        ({1: 0.1, 2: 0.1, 4: 0.1, 8: 0.19}, 4),  # what the VAE takes does not shrink
        ({1: 0.1, 2: 0.2, 4: 0.2}, 1),
        ({1: 5.0}, 1),  # too slow to measure
    ],
)
def test_the_largest_size_that_gains_is_kept(seconds, by_size, capacity):
    seconds(by_size)
    assert engine("auto").capacity == capacity


class DisturbedOnce(dict):
    """Seconds by size; the first step of two requests is slow."""

    disturbed = False

    def __getitem__(self, size):
        disturbed, self.disturbed = self.disturbed, self.disturbed or size == 2
        return super().__getitem__(size) * (1 if size != 2 or disturbed else 5)


def test_a_size_that_seems_to_gain_nothing_is_measured_again(seconds):
    seconds(DisturbedOnce({1: 0.1, 2: 0.1, 4: 0.1, 8: 0.1}))
    assert engine("auto").capacity == 8


def test_a_size_that_does_not_fit_the_memory_is_not_kept(seconds, monkeypatch):
    seconds({1: 0.1, 2: 0.1, 4: 0.1, 8: 0.1})
    unet = pipelines("sd")[0].unet
    forward = unet.forward

    def small(sample, *args, **options):
        if len(sample) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(sample, *args, **options)

    monkeypatch.setattr(unet, "forward", small)
    assert engine("auto").capacity == 2


@pytest.mark.parametrize(
    ("value", "capacity", "exact"),
    [
        ("1", 1, False),
        ("2", 2, False),
        ("8", 8, False),
        ("exact:4", 4, True),
        ("exact:1", 1, True),
    ],
)
def test_a_size_that_is_set_is_used(value, capacity, exact):
    made = engine(value)
    assert made.capacity == capacity
    assert made.describe()["mode"] == ("exact" if exact else "auto")


@pytest.mark.parametrize("value", ["0", "3", "16", "exact:", "exact:3", "auto:2", "on"])
def test_any_other_value_is_refused(value):
    with pytest.raises(SettingInvalid, match="EASEL_BATCH must be auto, exact, 1, 2, 4, 8"):
        SpeedSettings.from_environ({"EASEL_BATCH": value})


def test_the_models_description_has_the_result():
    made = engine("exact:2")
    assert made._generator.describe()["speed"]["batch"] == "exactly 2"


def test_a_pipeline_without_a_denoiser_is_painted_one_at_a_time():
    made = engine("8", PlainPipeline())
    assert made.capacity == 1
    (result,) = paint(made, request())
    assert result.pixels.shape == (64, 64, 3)


@pytest.mark.parametrize(("mixes", "capacity"), [(False, 2), (True, 1)])
def test_a_transformer_is_batched_if_its_rows_do_not_mix(monkeypatch, mixes, capacity):
    transformer = pipelines("sd3")[0].transformer
    forward = transformer.forward

    def mixing(hidden_states, **options):
        return forward(hidden_states + hidden_states.mean(0), **options)

    if mixes:
        monkeypatch.setattr(transformer, "forward", mixing)
    assert engine("2", pipelines("sd3")[0]).capacity == capacity


def test_measuring_logs_no_picture(capsys):
    engine("2")
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events == ["batch"]


def test_an_engine_paints_what_the_toolkit_does(quick_toolkit):
    body = {"prompt": "a cat", "seed": 1}
    expected = quick_toolkit.post(body, accept="image/png").body
    made = inference.engine_fn(quick_toolkit.model)
    data = inference.input_fn(json.dumps(body), "application/json")

    assert made.check(data) is None
    assert made.seconds(data) > 0
    ((_, result),) = run(made, [(0, data, Caller())])
    assert inference.output_fn(result, "image/png") == expected


def test_what_is_no_request_for_an_image_takes_no_time(quick_toolkit):
    made = inference.engine_fn(quick_toolkit.model)
    describe = inference.input_fn('{"describe": true}', "application/json")
    refused = inference.input_fn("{}", "application/json")
    unknown = inference.input_fn('{"prompt": "a", "lora": "x"}', "application/json")

    assert made.seconds(describe) is None
    assert made.seconds(refused) is None
    assert made.check(unknown).to_dict()["error"]["field"] == "lora"
