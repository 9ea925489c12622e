"""The numbers of steps that diffusers' schedulers accept."""

import diffusers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easel.defaults import Defaults
from easel.errors import InvalidRequest, guard
from easel.generator import ImageGenerator
from easel.pipelines.capabilities import Capabilities
from easel.pipelines.schedulers import SAMPLERS, steps_of
from easel.startup.quiet import without_warnings
from generation import GenerationRequest, InvalidField
from tests.model_package.doubles.pipelines import PlainPipeline

KINDS = sorted({kind for kind, _ in SAMPLERS.values()} | {"DDIMScheduler", "PNDMScheduler"})


def with_scheduler(kind, **config):
    pipeline = PlainPipeline()
    pipeline.scheduler = scheduler(kind, **config)
    return pipeline


def scheduler(kind, **config):
    with without_warnings():
        return getattr(diffusers, kind)(**config)


@pytest.mark.parametrize(
    ("kind", "config", "expected"),
    [
        ("LCMScheduler", {}, (1, 50)),
        ("TCDScheduler", {"original_inference_steps": 30}, (1, 30)),
        ("EulerDiscreteScheduler", {}, (1, 100)),
        ("PNDMScheduler", {"skip_prk_steps": True}, (1, 100)),
        ("PNDMScheduler", {"steps_offset": 1}, (4, 100)),
        ("DDIMScheduler", {"num_train_timesteps": 20}, (1, 20)),
        # Its noise depends on the picture's size: no number of steps alone is accepted.
        ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, (1, 100)),
    ],
)
def test_the_numbers_of_steps_are_the_schedulers_own(kind, config, expected):
    assert steps_of(scheduler(kind, **config)) == expected


@given(
    st.sampled_from(KINDS),
    st.integers(1, 100),
    st.sampled_from([10, 100, 1_000]),
    st.sampled_from(["leading", "trailing"]),
)
def test_what_passes_the_check_is_what_the_scheduler_accepts(kind, steps, trained, spacing):
    config = {"num_train_timesteps": trained, "timestep_spacing": spacing}
    if kind in {"LCMScheduler", "TCDScheduler"}:
        config["original_inference_steps"] = min(50, trained)
    capabilities = Capabilities.of(with_scheduler(kind, **config))
    try:
        capabilities.fit(GenerationRequest(prompt="a", steps=steps))
        passes = True
    except InvalidField:
        passes = False
    try:
        with without_warnings():
            scheduler(kind, **config).set_timesteps(steps)
        accepted = True
    except (ValueError, IndexError, ZeroDivisionError):
        accepted = False

    assert passes == accepted


def test_a_number_of_steps_outside_the_schedulers_limits_is_a_bad_request():
    generator = ImageGenerator(with_scheduler("LCMScheduler"), Defaults(steps=4))
    error = guard(lambda: generator.generate(GenerationRequest(prompt="a", steps=51)))

    assert isinstance(error, InvalidRequest)
    assert (error.status, error.field) == (400, "steps")
    assert str(error) == "steps: must be a whole number from 1 to 50 for this model"
    assert generator.describe()["limits"] == {"steps": {"maximum": 50}}


def test_a_pipelines_default_is_kept_inside_the_limits():
    pipeline = with_scheduler("LCMScheduler", original_inference_steps=20)

    assert Capabilities.of(pipeline).defaults.steps == 20


def test_a_warm_up_takes_as_many_steps_as_the_scheduler_needs():
    pipeline = with_scheduler("PNDMScheduler", steps_offset=1)
    ImageGenerator(pipeline, Defaults(steps=50)).warm_up()

    assert pipeline.calls[0]["num_inference_steps"] == 4
