"""An engine's turns: who is painted with whom, and what a fault in one request does to others."""

import math
import time
from copy import copy

import numpy as np
import pytest
import torch

from easel.batching.engine import Engine
from easel.batching.sizes import Sizes
from easel.defaults import Defaults
from easel.errors import (
    GenerationFailed,
    InvalidRequest,
    OutOfMemory,
    TooSlow,
)
from easel.generator import ImageGenerator
from easel.lora.adapters import Loras
from tests.model_package.doubles.lora_files import random_layers, write_kohya
from tests.model_package.easel.batching.runs import (
    NAN_SEED,
    Caller,
    engine_of,
    generator,
    paint,
    pipelines,
    request,
    run,
)

FAMILY = "dpm++"


@pytest.fixture
def rows(monkeypatch):
    """Note the rows of each call of the UNet; `rows.most` is what fits the memory."""
    unet = generator(FAMILY)._pipeline.unet
    forward = unet.forward

    class Rows(list):
        most = math.inf

    noted = Rows()

    def noting(sample, *args, **options):
        noted.append(len(sample))
        if len(sample) > noted.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.50 GiB.")
        return forward(sample, *args, **options)

    monkeypatch.setattr(unet, "forward", noting)
    return noted


def test_requests_share_calls_and_join_and_leave_between_steps(rows):
    came = [
        (turn, request(seed=turn, steps=steps, guidance_scale=5), Caller())
        for turn, steps in enumerate([6, 3, 4])
    ]
    results = run(engine_of(FAMILY, 4), came)

    assert set(rows) == {8}  # four requests, with and without the prompt
    assert len(rows) < 6 + 3 + 4
    assert [result.provenance.request.steps for _, result in results] == [6, 3, 4]


def test_one_that_finds_nobody_is_painted_alone_to_its_end_and_the_next_ones_together(rows):
    engine = Engine(generator(FAMILY), Sizes({1: 1.0, 2: 1.1, 4: 1.2}))
    came = [(0, request(seed=0, steps=6, guidance_scale=0), Caller())]
    came += [(2, request(seed=seed, guidance_scale=0), Caller()) for seed in (1, 2, 3)]
    results = run(engine, came)

    assert set(rows) == {1, 4}
    assert [result.provenance.batch for _, result in results] == [None, 4, 4, 4]


def test_the_size_of_its_batches_is_in_the_file():
    together = paint(engine_of(FAMILY, 2), request(seed=1), request(seed=2))
    (alone,) = paint(engine_of(FAMILY, 1), request())

    assert all("Batch: 2, " in result.provenance.parameters() for result in together)
    assert "Batch" not in alone.provenance.parameters()


@pytest.mark.parametrize(
    ("fault", "caller", "error"),
    [
        ({"seed": NAN_SEED}, {}, GenerationFailed),
        ({}, {"leaves_after": 0}, TooSlow),
        ({}, {"leaves_after": 2}, TooSlow),
        ({}, {"late": True}, TooSlow),
        ({"lora": "unknown:1"}, {}, InvalidRequest),
    ],
)
def test_a_fault_changes_no_other_picture_and_delays_none_by_more_than_a_step(fault, caller, error):
    def came(*other):
        others = [(2 * turn, request(seed=turn, steps=5), Caller()) for turn in range(3)]
        return [*others, *other]

    healthy = run(engine_of(FAMILY, 4), came((1, request(seed=9, steps=5), Caller())))
    faulty = (1, request(**{"seed": 9, "steps": 5, **fault}), Caller(**caller))
    results = run(engine_of(FAMILY, 4), came(faulty))

    assert isinstance(results[-1][1], error)
    for (before, expected), (turn, result) in zip(healthy[:-1], results[:-1], strict=True):
        assert turn <= before + 1
        assert np.array_equal(result.pixels, expected.pixels)


def test_what_is_wrong_with_a_request_is_returned_by_the_next_step():
    engine, caller = engine_of(FAMILY, 2), Caller()
    engine.add(request(lora="unknown:1"), caller)

    assert engine.busy
    ((watch, error),) = engine.step()
    assert watch is caller
    assert error.to_dict()["error"]["field"] == "lora"
    assert not engine.busy


def test_out_of_memory_halves_the_batch_until_it_fits(rows):
    rows.most = 4
    wanted = [request(seed=seed, guidance_scale=5) for seed in range(4)]
    results = paint(engine_of(FAMILY, 4), *wanted)
    rows.most = math.inf
    expected = paint(engine_of(FAMILY, 2), *wanted)

    assert [result.provenance.batch for result in results] == [2, 2, 2, 2]
    for result, other in zip(results, expected, strict=True):
        assert np.array_equal(result.pixels, other.pixels)


def test_out_of_memory_fails_only_the_request_that_does_not_fit_alone(rows):
    rows.most = 1
    too_large, fits = paint(
        engine_of(FAMILY, 4), request(guidance_scale=5), request(guidance_scale=0)
    )

    assert isinstance(too_large, OutOfMemory)
    assert fits.provenance.batch is None


def test_a_size_that_did_not_fit_is_not_tried_again(rows):
    rows.most = 4
    engine = engine_of(FAMILY, 4)
    paint(engine, request(guidance_scale=5), request(seed=2, guidance_scale=5))
    rows.clear()
    paint(engine, request(guidance_scale=5), request(seed=2, guidance_scale=5))

    assert set(rows) == {4}


def test_a_call_that_fails_for_one_is_done_again_without_it(monkeypatch):
    unet = generator(FAMILY)._pipeline.unet
    forward = unet.forward

    def refusing(sample, time, encoder_hidden_states, **options):
        if encoder_hidden_states.isnan().any():
            raise RuntimeError("not a number")
        return forward(sample, time, encoder_hidden_states, **options)

    monkeypatch.setattr(unet, "forward", refusing)
    encode = type(generator(FAMILY).ensemble)._with_texts

    def with_texts(self, pipeline, arguments, state):
        texts = encode(self, pipeline, arguments, state)
        if arguments["prompt"] == "poison":
            texts["prompt_embeds"] = texts["prompt_embeds"] * math.nan
        return texts

    monkeypatch.setattr(type(generator(FAMILY).ensemble), "_with_texts", with_texts)
    bad, good = paint(engine_of(FAMILY, 2), request("poison"), request("a cat"))

    assert isinstance(bad, GenerationFailed)
    assert np.array_equal(good.pixels, paint(engine_of(FAMILY, 2), request("a cat"))[0].pixels)


def test_it_has_room_up_to_its_capacity():
    engine = engine_of(FAMILY, 2)
    assert engine.fits(request())
    engine.add(request(), Caller())
    assert engine.fits(request(seed=2))  # so that requests that wait together begin together
    engine.add(request(seed=2), Caller())
    assert not engine.fits(request(seed=3))
    engine.step()
    assert not engine.fits(request(seed=3))
    while engine.busy:
        engine.step()
    assert engine.fits(request(seed=3))


def test_what_is_no_request_for_a_picture_takes_no_time():
    assert engine_of(FAMILY, 2).seconds(object()) is None


def test_a_wrong_request_is_known_before_it_waits():
    engine = engine_of(FAMILY, 2)

    assert engine.check(request()) is None
    assert isinstance(engine.check(request(lora="nowhere")), InvalidRequest)
    assert engine.seconds(request(lora="nowhere")) == 0


def test_more_than_it_has_room_for_wait_their_turn():
    came = [(0, request(seed=seed), Caller()) for seed in range(5)]
    turns = [turn for turn, _ in run(engine_of(FAMILY, 2), came)]

    assert turns == sorted(turns)
    assert turns[1] < turns[2]


def test_progress_is_reported_after_each_step():
    caller = Caller()
    run(engine_of(FAMILY, 2), [(0, request(steps=4), caller)])

    assert caller.progress == [(step, 4) for step in (1, 2, 3, 4)]


@pytest.mark.parametrize("family", ["ensemble", "refined", "pndm", "heun"])
def test_progress_counts_the_steps_of_the_request(family):
    caller = Caller()
    run(engine_of(family, 2), [(0, request(steps=6), caller)])

    assert {steps for _, steps in caller.progress} == {6}
    assert caller.progress[-1] == (6, 6)
    assert caller.progress == sorted(caller.progress)


@pytest.mark.parametrize("family", ["euler", "sdxl", "ensemble"])
def test_previews_are_small_pictures_and_change_nothing(family):
    caller = Caller(previews=True)
    ((_, result),) = run(engine_of(family, 2), [(0, request(steps=3, width=128), caller)])

    assert [(each.shape, each.dtype) for each in caller.shown] == [((8, 16, 3), np.uint8)] * 3
    (expected,) = paint(engine_of(family, 2), request(steps=3, width=128))
    assert np.array_equal(result.pixels, expected.pixels)


def test_it_learns_how_long_a_picture_takes():
    engine = engine_of("euler", 1)
    before = engine.seconds(request())
    started = time.perf_counter()
    paint(engine, request())
    took = time.perf_counter() - started

    assert engine.seconds(request()) < min(before, 1.5 * took + 1)
    assert engine.seconds(request(steps=60)) > engine.seconds(request(steps=3))
    assert engine.seconds(request(width=128)) > engine.seconds(request())


def test_it_describes_itself():
    engine = Engine(generator(FAMILY), Sizes({1: 0.5, 2: 0.6}))
    engine.add(request(), Caller())
    engine.step()

    description = engine.describe()
    assert description["capacity"] == 2
    assert description["mode"] == "auto"
    assert description["seconds_per_step"] == {"1": 0.5, "2": 0.6}
    assert description["painting"] == [{"width": 64, "height": 64, "batch": 1}]
    while engine.busy:
        engine.step()
    assert engine.describe()["painted"] == {"1": 1}


@pytest.fixture
def with_adapters(tmp_path):
    """Return a generator with two adapters."""
    base = copy(pipelines("sd")[0])
    for seed, name in enumerate(("one", "two")):
        write_kohya(tmp_path / f"{name}.safetensors", random_layers(base, seed=seed))
    files = [(path.stem, path) for path in sorted(tmp_path.iterdir())]
    made = ImageGenerator(base, Defaults(), loras=Loras(files, [base]))
    yield made
    made._loras.restore()


def test_adapters_stay_when_one_of_their_requests_fails_and_others_wait(with_adapters):
    wanted = [request(seed=seed, steps=4, lora="one:1") for seed in range(2)]
    other = request(seed=3, lora="two:1")
    engine = Engine(with_adapters, Sizes({2: 1.0}, exact=True))
    expected = [result.pixels for each in (*wanted, other) for result in paint(engine, each)]

    leaves = Caller(leaves_after=1)
    came = [(0, wanted[0], Caller()), (0, wanted[1], leaves), (1, other, Caller())]
    (first, result), (_, left), (last, waited) = run(engine, came)

    assert isinstance(left, TooSlow)
    assert np.array_equal(result.pixels, expected[0])
    assert np.array_equal(waited.pixels, expected[2])
    assert not np.array_equal(expected[0], paint(engine, request(seed=0, steps=4))[0].pixels)
    assert first < last


def test_what_input_fn_refused_is_returned_as_it_is():
    engine, caller, refused = engine_of(FAMILY, 2), Caller(), InvalidRequest("no", "prompt")
    engine.add(refused, caller)

    assert engine.step() == [(caller, refused)]
