"""Pictures of compiled models, through the four functions of inference.py."""

import json

import diffusers
import numpy as np
import pytest
import torch
import torch_neuronx

from easel.loading.pipeline import load_pipeline
from easel.pipelines.ensemble import Ensemble
from tests.model_package.neuron.on_chip.conftest import HEIGHT, WIDTH, paint_plainly, pixels


def paint(toolkit, **fields):
    answer = toolkit.post({"prompt": "a cat", "seed": 7, **fields}, accept="image/png")
    assert answer.status == 200, answer.body
    return pixels(answer.body)


def assert_equal(picture, expected):
    assert picture.shape == expected.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(picture - expected).max() <= 1


@pytest.mark.parametrize("lora", [False, True], ids=["model", "adapter"])
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_a_compiled_model_paints_what_diffusers_paints(compiled, kind, lora):
    model = compiled(kind, lora)
    picture = paint(model.served)
    assert_equal(picture, paint_plainly(model.plain()))
    assert picture.std() > 5


def test_an_adapter_changes_the_picture(compiled):
    plain, adapted = (paint(compiled("sd", lora).served) for lora in (False, True))
    assert np.abs(plain - adapted).max() > 10


@pytest.mark.parametrize("scale", [0, 1])
def test_a_turbo_model_without_guidance_uses_one_core(compiled, scale):
    model = compiled("turbo")
    toolkit = model.served
    torch_neuronx.DataParallel.used.clear()
    picture = paint(toolkit, guidance_scale=scale, steps=1)
    assert torch_neuronx.DataParallel.used == [1]
    plain = paint_plainly(model.plain(), guidance_scale=float(scale), num_inference_steps=1)
    assert_equal(picture, plain)


def test_guidance_is_computed_on_two_cores(compiled):
    toolkit = compiled("sdxl").served
    torch_neuronx.DataParallel.used.clear()
    paint(toolkit, steps=4)
    assert torch_neuronx.DataParallel.used == [2, 2, 2, 2]


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_picture(compiled):
    toolkit = compiled("sd").served
    first, again, other = (
        toolkit.post({"prompt": "a cat", "seed": seed}, accept="image/png").body
        for seed in (7, 7, 8)
    )
    assert first == again
    assert not np.array_equal(pixels(first), pixels(other))


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_negative_prompt_steps_and_guidance_are_those_of_diffusers(compiled, kind):
    model = compiled(kind)
    fields = {"negative_prompt": "a dog", "guidance_scale": 3.0}
    picture = paint(model.served, **fields, steps=5)
    assert_equal(picture, paint_plainly(model.plain(), **fields, num_inference_steps=5))
    assert not np.array_equal(picture, paint(model.served, guidance_scale=3.0, steps=5))


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [("dpm++-2m", "DPMSolverMultistepScheduler"), ("euler-a", "EulerAncestralDiscreteScheduler")],
)
def test_another_scheduler_is_that_of_diffusers(compiled, monkeypatch, name, scheduler):
    monkeypatch.setenv("EASEL_SAMPLER", name)
    plain = compiled("sd").plain(getattr(diffusers, scheduler))
    assert_equal(paint(compiled("sd").serve()), paint_plainly(plain))


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_weights_above_one_in_a_prompt_are_those_of_the_model_that_is_not_compiled(compiled, kind):
    model = compiled(kind)
    arguments = {"prompt": "a (red:1.4) cat", "num_inference_steps": 3, "width": WIDTH,
                 "height": HEIGHT, "guidance_scale": 5.0}  # fmt: skip
    plain = load_pipeline(
        model.source, dtype=torch.float32, device=torch.device("cpu"), allow_pickle=False
    )
    image = Ensemble(plain).run(arguments, seed=7, state="").images[0]
    expected = (image.permute(1, 2, 0).numpy() * 255).round().astype(int)
    picture = paint(model.served, prompt="a (red:1.4) cat")
    assert_equal(picture, expected)
    assert not np.array_equal(picture, paint(model.served, prompt="a red cat"))


def test_the_model_says_which_size_it_paints(compiled):
    described = json.loads(compiled("sd", lora=True).served.post({"describe": True}).body)
    assert described["limits"]["width"] == {"minimum": WIDTH, "maximum": WIDTH}
    assert described["limits"]["height"] == {"minimum": HEIGHT, "maximum": HEIGHT}
    assert (described["defaults"]["width"], described["defaults"]["height"]) == (WIDTH, HEIGHT)
    assert (described["loras"], described["merged_lora"]) == ([], "watercolour:0.7")
    assert described["fields"] == ["guidance_scale", "height", "negative_prompt", "steps", "width"]


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"width": 128}, "width", "must be 80 for this model"),
        ({"height": 64}, "height", "must be 128 for this model"),
        ({"lora": "watercolour"}, "lora", "compiled with watercolour:0.7"),
        ({"prompt": "x" * 76}, "prompt", "at most 75 tokens"),
        ({"prompt": "a (red:0.5) cat"}, "prompt", "no weight below 1"),
        ({"negative_prompt": "x" * 76}, "negative_prompt", "at most 75 tokens"),
        ({"steps": 0}, "steps", "from 1 to 100"),
    ],
)
def test_what_a_compiled_model_cannot_do_is_refused_by_name(compiled, fields, field, words):
    toolkit = compiled("sd", lora=True).served
    answer = toolkit.post({"prompt": "a cat", **fields}, accept="image/png")
    assert (answer.status, answer.error["field"]) == (400, field)
    assert words in answer.error["message"]
    assert paint(toolkit).any()  # and the model still works


def test_a_prompt_of_one_chunk_is_painted(compiled):
    assert paint(compiled("sd").served, prompt="x" * 75).any()


def test_the_warm_up_uses_the_only_size_and_both_cores(compiled):
    compiled("sd").serve()
    assert set(torch_neuronx.DataParallel.used) == {2}


@pytest.mark.parametrize(("verdict", "status"), [("passes", 200), ("blocks", 422)])
def test_a_safety_checker_looks_at_every_picture(compiled, verdict, status):
    model = compiled("sd", safety_checker=verdict)
    # A warm-up is no picture for anybody.
    answer = model.served.post({"prompt": "a cat", "seed": 7}, accept="image/png")
    assert answer.status == status


def test_jpeg_and_json_are_answered_as_by_any_model(compiled):
    toolkit = compiled("sd").served
    answer = toolkit.post({"prompt": "a cat", "seed": 7}, accept="application/json")
    assert answer.status == 200
    assert answer.json()
