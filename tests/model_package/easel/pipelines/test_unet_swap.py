"""A base and a refiner that are two UNets of one Stable Diffusion pipeline."""

import json
import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel

from easel.errors import ModelUnusable
from easel.loading.pipeline import load_pipeline
from easel.loading.refiner import load_refiner
from easel.pipelines.ensemble import Ensemble
from tests.model_package.doubles.toolkit import Toolkit

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}
SIZE = {"width": 64, "height": 64, "guidance_scale": 5.0}
REQUEST = {"prompt": "a cat", "seed": 7}


def write_refiner(folder, **changes):
    """Write `refiner/` with a UNet of its own: random, and where asked for of another shape."""
    config = json.loads((folder / "unet" / "config.json").read_text())
    torch.manual_seed(1)
    UNet2DConditionModel.from_config({**config, **changes}).save_pretrained(
        folder / "refiner" / "unet"
    )
    shutil.copy(folder / "model_index.json", folder / "refiner")


@pytest.fixture
def folder(stand_in, tmp_path):
    """A model that holds nothing of its refiner but the UNet."""
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    write_refiner(tmp_path)
    return tmp_path


@pytest.fixture
def pair(folder):
    base = load_pipeline(folder, **HOW)
    return base, load_refiner(folder / "refiner", base, **HOW)


def run(ensemble, steps):
    request = {"prompt": "a cat", "num_inference_steps": steps, **SIZE}
    return ensemble.run(request, seed=7, state="").images[0]


def steps_of(unet, seen):
    return unet.register_forward_pre_hook(lambda _, inputs: seen.append(int(inputs[1])))


@pytest.mark.parametrize(
    ("start", "steps", "expected"),
    [(None, 10, (8, 2)), (0.5, 10, (5, 5)), (0.8, 1, (1, 0)), (1, 10, (10, 0))],
)
def test_the_second_unet_takes_the_last_steps(pair, start, steps, expected):
    seen = [], []
    handles = [steps_of(pipeline.unet, times) for pipeline, times in zip(pair, seen, strict=True)]
    run(Ensemble(*pair, start=start), steps)
    for handle in handles:
        handle.remove()
    assert tuple(map(len, seen)) == expected
    together = seen[0] + seen[1]
    assert together == sorted(together, reverse=True)


def test_two_equal_unets_generate_what_one_generates(pair):
    base, refiner = pair
    refiner.unet.load_state_dict(base.unet.state_dict())
    assert (run(Ensemble(base), 10) == run(Ensemble(base, refiner), 10)).all()


def test_the_refiner_changes_the_picture(pair):
    assert (run(Ensemble(pair[0]), 10) != run(Ensemble(*pair), 10)).any()


def test_guidance_may_end_before_the_refiner_comes(pair):
    inputs = []
    for pipeline in pair:
        pipeline.unet.register_forward_pre_hook(lambda _, args: inputs.append(len(args[0])))
    run(Ensemble(*pair, guided_share=0.6), 10)

    assert inputs == [2] * 6 + [1] * 4


def test_all_else_is_shared(pair):
    base, refiner = pair
    assert refiner.unet is not base.unet
    for name in set(base.components) - {"unet"}:
        assert refiner.components[name] is base.components[name]


def test_a_failure_in_the_refiner_gives_the_pipeline_its_own_unet_back(pair):
    base, refiner = pair
    own = base.unet
    refiner.unet.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(Ensemble(base, refiner), 5)
    assert base.unet is own


def test_a_model_folder_with_a_refiner_is_served(folder):
    request = {**REQUEST, **SIZE, "steps": 5}
    bodies = [Toolkit(folder).post(request, accept="image/png").body]
    shutil.rmtree(folder / "refiner")
    bodies.append(Toolkit(folder).post(request, accept="image/png").body)
    assert all(body.startswith(b"\x89PNG") for body in bodies)
    assert bodies[0] != bodies[1]


def test_a_unet_for_other_latents_is_refused(folder):
    shutil.rmtree(folder / "refiner")
    write_refiner(folder, in_channels=8)
    base = load_pipeline(folder, **HOW)
    with pytest.raises(ModelUnusable, match="in_channels is 8, the base's 4"):
        load_refiner(folder / "refiner", base, **HOW)
