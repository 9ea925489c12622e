from types import SimpleNamespace

import pytest

from easel.defaults import Defaults
from easel.errors import ModelUnusable
from easel.pipelines.capabilities import Capabilities
from generation import GenerationRequest, InvalidField
from tests.model_package.doubles.pipelines import (
    BarePipeline,
    ImageToImagePipeline,
    PlainPipeline,
    UnconditionalPipeline,
)


def test_the_defaults_are_those_of_the_call_and_of_the_denoiser():
    assert Capabilities.of(PlainPipeline()).defaults == Defaults(
        steps=50, guidance_scale=7.5, width=128, height=128
    )


@pytest.mark.parametrize(
    ("sample_size", "width", "height"),
    [((16, 24), 192, 128), (4, 64, 64), (256, 1_536, 1_536), (None, None, None)],
)
def test_a_models_size_is_kept_inside_the_contract(sample_size, width, height):
    pipeline = PlainPipeline()
    pipeline.unet = None
    pipeline.transformer = SimpleNamespace(config=SimpleNamespace(sample_size=sample_size))
    defaults = Capabilities.of(pipeline).defaults
    assert (defaults.width, defaults.height) == (width, height)


def test_a_pipelines_own_sample_size_comes_first():
    pipeline = PlainPipeline()
    pipeline.default_sample_size = 64
    assert Capabilities.of(pipeline).defaults.width == 512


def test_everything_that_the_pipeline_takes_is_passed_on():
    request = GenerationRequest(
        prompt="a", negative_prompt="b", seed=1, steps=4, guidance_scale=0, width=64, height=72
    )
    capabilities = Capabilities.of(PlainPipeline())
    assert capabilities.arguments(capabilities.fit(request)) == {
        "prompt": "a",
        "negative_prompt": "b",
        "num_inference_steps": 4,
        "guidance_scale": 0.0,
        "width": 64,
        "height": 72,
    }


def test_what_the_pipeline_does_not_take_is_left_out_and_not_claimed_afterwards():
    request = GenerationRequest(prompt="a", negative_prompt="b", seed=1, steps=4, guidance_scale=2)
    capabilities = Capabilities.of(BarePipeline())
    fitted = capabilities.fit(request)
    assert fitted == GenerationRequest(prompt="a", seed=1)
    assert capabilities.arguments(fitted) == {"prompt": "a"}
    assert capabilities.defaults == Defaults()


def test_a_size_is_refused_by_a_model_that_generates_one_size():
    with pytest.raises(InvalidField, match="this model generates one size") as caught:
        Capabilities.of(BarePipeline()).fit(GenerationRequest(prompt="a", height=64))
    assert caught.value.field == "height"


@pytest.mark.parametrize(
    ("attributes", "multiple"),
    [
        ({}, 8),
        ({"patch_size": 2}, 16),
        ({"patch_size": None}, 8),
        ({"vae_scale_factor": 32}, 32),
        ({"vae_scale_factor": 4}, 8),
        ({"image_processor": SimpleNamespace(config={"vae_scale_factor": 16})}, 16),
    ],
)
def test_a_side_must_be_a_multiple_that_the_model_can_generate(attributes, multiple):
    pipeline = PlainPipeline()
    for name, value in attributes.items():
        setattr(pipeline, name, value)
    capabilities = Capabilities.of(pipeline)
    good = GenerationRequest(prompt="a", width=8 * multiple)
    assert capabilities.fit(good).width == 8 * multiple
    if multiple > 8:
        with pytest.raises(InvalidField, match=f"must be a multiple of {multiple} from") as caught:
            capabilities.fit(GenerationRequest(prompt="a", width=8 * multiple + 8))
        assert caught.value.field == "width"


@pytest.mark.parametrize("kind", [ImageToImagePipeline, UnconditionalPipeline])
def test_a_pipeline_that_needs_more_or_other_than_a_prompt_is_refused(kind):
    with pytest.raises(ModelUnusable, match=f"{kind.__name__} does not generate images"):
        Capabilities.of(kind())


@pytest.mark.parametrize(
    ("pipeline", "scale", "smallest"),
    [
        (PlainPipeline(), 8, (64, 64)),
        (PlainPipeline(), 48, (96, 96)),
        (BarePipeline(), 8, (None, None)),
    ],
)
def test_the_smallest_size_is_one_that_the_model_can_generate(pipeline, scale, smallest):
    pipeline.vae_scale_factor = scale
    capabilities = Capabilities.of(pipeline)
    assert capabilities.smallest == smallest
    request = GenerationRequest(prompt="a", seed=1, width=smallest[0], height=smallest[1])
    assert capabilities.fit(request).width == smallest[0]
