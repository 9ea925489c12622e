"""Nobody can see in a picture who else was painted with it, or what went wrong with them."""

import math
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from easel.batching.engine import Engine
from easel.batching.sizes import SIZES, Sizes
from easel.errors import EaselError, ModerationBlocked, OutOfMemory, TooSlow, guard
from easel.generator import GeneratedImage
from easel.startup.quiet import without_warnings
from generation import GenerationRequest
from tests.model_package.easel.batching.runs import (
    FAMILIES,
    NAN_SEED,
    Caller,
    engine_of,
    generator,
    paint,
    request,
    run,
)

# An example paints up to six pictures of up to five steps.
EXAMPLES = 10 if settings.default.max_examples <= 100 else 40

REQUESTS = st.builds(
    request,
    prompt=st.sampled_from(["a cat", "a (red:1.3) dog", "a fish " * 30]),
    negative_prompt=st.sampled_from(["", "blurred"]),
    seed=st.integers(0, NAN_SEED - 1),
    steps=st.integers(1, 5),
    guidance_scale=st.sampled_from([0, 1, 2.5, 7]),
    width=st.sampled_from([64, 64, 80]),
)
CALLERS = st.one_of(
    st.builds(Caller),
    st.builds(Caller, previews=st.just(True)),
    st.builds(Caller, leaves_after=st.integers(0, 3)),
    st.builds(Caller, late=st.just(True)),
)


@st.composite
def arrivals(draw):
    """Draw requests with their callers and turns of arrival; some fail."""
    found = []
    for _ in range(draw(st.integers(1, 6))):
        wanted = draw(REQUESTS)
        if draw(st.integers(0, 9)) == 9:
            wanted = GenerationRequest(**{**wanted.to_dict(), "seed": NAN_SEED})
        found.append((draw(st.integers(0, 12)), wanted, draw(CALLERS)))
    return found


@cache
def alone(family, size, wanted):
    """Return what a request gets if it is alone, at a size; the error's class if it fails."""
    (result,) = paint(engine_of(family, size), wanted)
    return type(result) if isinstance(result, EaselError) else result.pixels


@contextmanager
def memory_for(denoiser, most):
    """Let a denoiser run out of memory with more than `most` rows."""
    forward = denoiser.forward

    def limited(*args, **options):
        rows = len(args[0] if args else options["hidden_states"])
        if rows > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(*args, **options)

    denoiser.forward = limited
    try:
        yield
    finally:
        del denoiser.forward


def check(family, results, came, rows):
    for (_, result), (_, wanted, caller) in zip(results, came, strict=True):
        wanted = generator(family).complete(wanted)
        if isinstance(result, TooSlow):
            assert caller.cancelled() or caller.deadline == 0
            continue
        assert caller.deadline > 0
        if isinstance(result, OutOfMemory):
            assert rows == 1
            assert wanted.guidance_scale > 1
            continue
        size = result.provenance.batch or 1 if isinstance(result, GeneratedImage) else 1
        expected = alone(family, size, wanted)
        if isinstance(result, EaselError):
            # An image is blocked by its bits, and an error does not say at which size.
            assert type(result) is expected or isinstance(result, ModerationBlocked)
        else:
            assert np.array_equal(result.pixels, expected)


@settings(max_examples=EXAMPLES)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    came=arrivals(),
    size=st.sampled_from([2, 4]),
    exact=st.booleans(),
    rows=st.sampled_from([math.inf, math.inf, 4, 2, 1]),
)
def test_each_picture_is_the_one_of_its_run_alone_at_that_size(family, came, size, exact, rows):
    sizes = Sizes({each: 1.0 for each in SIZES if each <= size}, exact=exact)
    with memory_for(generator(family).denoiser, rows):
        results = run(Engine(generator(family), sizes), came)
    check(family, results, came, rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_at_size_one_it_is_what_the_generator_paints(family):
    wanted = [request(seed=0, steps=2, guidance_scale=0), request(seed=1, guidance_scale=5)]
    results = paint(engine_of(family, 1), *wanted)

    for result, each in zip(results, wanted, strict=True):
        expected = guard(generator(family).generate, each)
        assert type(result) is type(expected)
        if isinstance(result, GeneratedImage):
            assert np.array_equal(result.pixels, expected.pixels)
            assert result.provenance == expected.provenance


PLAIN = [name for name, (kind, _, _) in FAMILIES.items() if kind in ("sd", "sdxl", "sd3")]


@pytest.mark.parametrize("family", PLAIN)
def test_it_is_close_to_what_diffusers_paints(family, monkeypatch):
    wanted = [request("a cat", seed=seed, steps=4, guidance_scale=5) for seed in range(2)]
    images = []
    # Before rounding: in so small a picture, one value that is rounded differently costs 89 dB.
    monkeypatch.setattr("easel.generator.to_pixels", lambda image: images.append(image) or GREY)
    paint(engine_of(family, 4), *wanted)

    for image, each in zip(images, wanted, strict=True):
        with without_warnings():
            expected = of_diffusers(generator(family)._pipeline, each)
        error = np.mean((image.permute(1, 2, 0).numpy() - expected) ** 2)
        assert error <= 10**-9  # 90 dB


GREY = np.zeros((64, 64, 3), np.uint8)


def of_diffusers(pipeline, wanted):
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    return pipeline(
        prompt=wanted.prompt,
        num_inference_steps=wanted.steps,
        guidance_scale=wanted.guidance_scale,
        width=wanted.width,
        height=wanted.height,
        generator=torch.Generator("cpu").manual_seed(wanted.seed),
        output_type="np",
    ).images[0]
