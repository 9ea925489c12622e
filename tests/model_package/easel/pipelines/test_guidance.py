from copy import copy

import pytest
import torch

from easel.loading.pipeline import load_pipeline
from easel.pipelines import guidance
from easel.pipelines.ensemble import Ensemble
from tests.model_package.doubles.pipelines import PlainPipeline

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}


def generate(pipeline, share, **changes):
    """Return a picture, and how many inputs the UNet had in each step."""
    inputs = []
    handle = pipeline.unet.register_forward_hook(lambda _, args, __: inputs.append(len(args[0])))
    request = {"prompt": "a cat", "width": 64, "height": 64, "num_inference_steps": 5}
    request |= {"guidance_scale": 5.0, **changes}
    picture = Ensemble(pipeline, guided_share=share).run(request, seed=7, state="").images
    handle.remove()
    return picture, inputs


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def pipeline(request, stand_in):
    return load_pipeline(stand_in(kind=request.param), **HOW)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1.0, [2, 2, 2, 2, 2]), (0.6, [2, 2, 2, 1, 1]), (0.01, [2, 1, 1, 1, 1])],
)
def test_the_last_steps_go_without_guidance(pipeline, share, expected):
    assert generate(pipeline, share)[1] == expected


def test_it_changes_the_picture_and_the_next_one_is_guided_again(pipeline):
    whole = generate(pipeline, 1.0)[0]
    assert not torch.equal(generate(pipeline, 0.6)[0], whole)
    assert torch.equal(generate(pipeline, 1.0)[0], whole)


@pytest.mark.parametrize("scale", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 5])
def test_a_picture_without_guidance_does_not_change(pipeline, scale, steps):
    request = {"guidance_scale": scale, "num_inference_steps": steps}
    picture, inputs = generate(pipeline, 0.4, **request)
    assert inputs == [1] * steps
    assert torch.equal(picture, generate(pipeline, 1.0, **request)[0])


def test_one_step_is_guided_whatever_the_share(pipeline):
    request = {"num_inference_steps": 1}
    assert generate(pipeline, 0.4, **request)[1] == [2]
    assert torch.equal(generate(pipeline, 0.4, **request)[0], generate(pipeline, 1.0, **request)[0])


def test_a_model_that_takes_guidance_as_a_number_does_not_change(pipeline):
    config = {**pipeline.unet.config, "time_cond_proj_dim": 8}
    torch.manual_seed(0)
    pipeline = copy(pipeline)
    pipeline.unet = type(pipeline.unet).from_config(config).eval()
    picture, inputs = generate(pipeline, 0.4)
    assert inputs == [1] * 5
    assert torch.equal(picture, generate(pipeline, 1.0)[0])


def test_other_pipelines_do_not_change():
    assert guidance.cutoff(PlainPipeline(), 0.5) == {}


def test_a_refiner_still_takes_over_where_guidance_ended_before(stand_in):
    folder = stand_in()
    base, refiner = (load_pipeline(folder, **HOW) for _ in range(2))
    refined = []
    refiner.unet.register_forward_hook(lambda _, args, __: refined.append(len(args[0])))
    request = {"prompt": "a cat", "width": 64, "height": 64, "num_inference_steps": 5}
    ensemble = Ensemble(base, refiner, start=0.6, guided_share=0.8)
    ensemble.run({**request, "guidance_scale": 5.0}, seed=7, state="")
    assert refined == [2, 1]
