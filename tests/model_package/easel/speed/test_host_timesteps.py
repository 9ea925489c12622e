from copy import copy

import diffusers
import pytest
import torch

from easel.loading.pipeline import load_pipeline
from easel.loading.refiner import load_refiner
from easel.pipelines.ensemble import Ensemble
from easel.pipelines.schedulers import sampler_name
from easel.speed import host_timesteps
from easel.startup.quiet import without_warnings
from tests.model_package.doubles.fake_gpu import FakeGpu, move
from tests.model_package.doubles.pipelines import PlainPipeline

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}
ARGUMENTS = {"prompt": "a cat", "width": 64, "height": 64, "guidance_scale": 5.0}
# What goes to the GPU before the first step: prompt, negative prompt, timesteps and noise.
UPLOADS = 4


@pytest.fixture(scope="module")
def loaded(stand_in):
    """Return a function that loads each kind of stand-in once."""
    made = {}

    def load(kind="sd"):
        if kind not in made:
            made[kind] = load_pipeline(stand_in(kind=kind), **HOW)
        return made[kind]

    return load


@pytest.fixture(scope="module")
def on_gpu(stand_in):
    """Return a pipeline on the fake GPU; its UNet is small, as each operation takes long there."""
    pipeline = load_pipeline(stand_in(), **HOW)
    torch.manual_seed(0)
    pipeline.unet = diffusers.UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(32,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        mid_block_type=None,
        up_block_types=("UpBlock2D",),
        cross_attention_dim=32,
    )
    move(*(part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)))
    return pipeline


def with_scheduler(pipeline, scheduler, *, host):
    """Return a pipeline that shares all other parts with this one."""
    pipeline = copy(pipeline)
    kind = getattr(diffusers, scheduler)
    with without_warnings():
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
    if host:
        assert host_timesteps.keep_steps_on_the_host([pipeline]) == "on"
    return pipeline


def generate(pipeline, steps):
    return (
        Ensemble(pipeline).run({**ARGUMENTS, "num_inference_steps": steps}, seed=7, state="").images
    )


def count_waits(pipeline, steps):
    with FakeGpu() as gpu:
        generate(pipeline, steps)
    return gpu.waits


@pytest.mark.parametrize("scheduler", sorted(host_timesteps._SCHEDULERS))
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_the_picture_is_the_same_to_the_bit(loaded, kind, scheduler):
    pictures = [
        generate(with_scheduler(loaded(kind), scheduler, host=host), 5) for host in (False, True)
    ]
    assert torch.equal(*pictures)


@pytest.mark.parametrize("scheduler", ["PNDMScheduler", "DDIMScheduler", "TCDScheduler"])
def test_no_step_waits_for_the_gpu(on_gpu, scheduler):
    host, plain = (with_scheduler(on_gpu, scheduler, host=host) for host in (True, False))
    few, many = (count_waits(host, steps) for steps in (4, 9))
    assert few == many == {"_to_copy": UPLOADS}
    few, many = (count_waits(plain, steps) for steps in (4, 9))
    assert many.total() - few.total() >= 5


@pytest.mark.parametrize("scheduler", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_neither_does_the_first(on_gpu, scheduler):
    host, plain = (with_scheduler(on_gpu, scheduler, host=host) for host in (True, False))
    assert count_waits(host, 2) == {"_to_copy": UPLOADS}
    assert count_waits(plain, 2)["nonzero"] == 1


def test_a_scheduler_that_draws_noise_still_draws_the_requests_own(loaded):
    pipeline = with_scheduler(loaded(), "EulerAncestralDiscreteScheduler", host=True)
    first = generate(pipeline, 4)
    torch.rand(1)
    assert torch.equal(generate(pipeline, 4), first)


def test_base_and_refiner_generate_the_same_picture_too(stand_in):
    pictures = []
    for host in (False, True):
        folder = stand_in(kind="ensemble")
        base = load_pipeline(folder / "base", **HOW)
        pair = [base, load_refiner(folder / "refiner", base, **HOW)]
        if host:
            assert host_timesteps.keep_steps_on_the_host(pair) == "on"
        request = {**ARGUMENTS, "num_inference_steps": 10}
        pictures.append(Ensemble(*pair).run(request, seed=7, state="").images)
    assert torch.equal(*pictures)


def test_a_scheduler_that_cannot_begin_in_the_middle_is_not_changed_with_a_refiner(stand_in):
    folder = stand_in(kind="ensemble")
    base = load_pipeline(folder / "base", **HOW)
    base = with_scheduler(base, "DDIMScheduler", host=False)
    refiner, before = load_refiner(folder / "refiner", base, **HOW), base.scheduler
    assert host_timesteps.keep_steps_on_the_host([base, refiner]).startswith("off: DDIMScheduler")
    assert base.scheduler is before


def test_pipelines_and_schedulers_that_are_not_known_do_not_change(loaded):
    pipeline = with_scheduler(loaded(), "HeunDiscreteScheduler", host=False)
    before = pipeline.scheduler
    assert host_timesteps.keep_steps_on_the_host([pipeline]) == "off: not for HeunDiscreteScheduler"
    assert pipeline.scheduler is before
    assert host_timesteps.keep_steps_on_the_host([PlainPipeline()]).startswith("off: not for")


def test_the_pictures_file_names_the_scheduler_as_before(loaded):
    pipeline = with_scheduler(loaded(), "PNDMScheduler", host=True)
    assert sampler_name(type(pipeline.scheduler).__name__, pipeline.scheduler.config) == "PLMS"
