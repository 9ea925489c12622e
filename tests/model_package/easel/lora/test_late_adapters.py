"""Adapters that are published after the model was loaded, in whichever way the model is served."""

import json
import math
import shutil
import time
from copy import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import inference
from easel.batching.engine import Engine
from easel.batching.sizes import Sizes
from easel.errors import AdaptersUnavailable, InvalidRequest
from easel.generator import ImageGenerator
from easel.load import load_generator
from easel.lora import published
from easel.lora.adapters import Loras
from easel.lora.places import FolderPlace, PlaceUnavailable
from easel.serving.request import DescribeRequest
from easel.speed.compiler import Compiler
from generation import GenerationRequest, InvalidField
from tests.model_package.conftest import QUICK
from tests.model_package.doubles.lora_files import random_layers, write_kohya
from tests.model_package.easel.batching.runs import Caller, paint, request, run
from tests.model_package.easel.lora.helpers import REQUEST, SIZE, generator, load


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A place that is looked at for each request, so that a change shows at once."""
    monkeypatch.setattr(published, "_FRESH_SECONDS", 0.0)
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


def publish(shelf, name, pipeline, seed=0, **options):
    new = shelf / f"{name}.new"
    write_kohya(new, random_layers(pipeline, seed=seed, **options))
    return new.replace(shelf / f"{name}.safetensors")


def generate(by, lora=""):
    wanted = GenerationRequest(**REQUEST, lora=lora)
    by.update(wanted)
    return by.generate(wanted).pixels


def described(by):
    by.update(None)
    return by.describe()


def watching(pipelines, shelf):
    return ImageGenerator(pipelines[0], SIZE, loras=Loras([], pipelines, FolderPlace(shelf)))


def broken():
    raise PlaceUnavailable("S3 does not answer")


@pytest.fixture
def sd(pipelines):
    """The pipeline, without an adapter that a test left in it."""
    made = pipelines["sd"]
    before = {key: weight.clone() for key, weight in made[0].unet.state_dict().items()}
    yield made
    made[0].unet.load_state_dict(before)


def test_it_makes_the_picture_of_an_adapter_that_was_always_there(sd, shelf, tmp_path):
    by = watching(sd, shelf)
    plain = generate(by)
    with pytest.raises(InvalidField, match="unknown adapter late; this model has no adapters"):
        generate(by, "late")
    path = publish(shelf, "late", sd[0])
    styled = generate(by, "late:0.5")

    assert (generate(by) == plain).all()
    assert described(by)["loras"] == described(by)["published"] == ["late"]
    known = generator(sd, late=shutil.copy(path, tmp_path / "late"))
    assert (styled == generate(known, "late:0.5")).all()
    assert "published" not in known.describe()
    assert (generate(known) == plain).all()


def test_a_replaced_one_is_another_style_for_the_text_encoder_too(sd, shelf):
    by = watching(sd, shelf)
    parts = ("text_encoder",)
    publish(shelf, "late", sd[0], parts=parts, size=1)
    first = generate(by, "late")
    publish(shelf, "late", sd[0], parts=parts, size=1, seed=1)
    second = generate(by, "late")

    assert (first != second).any()
    assert len(by._loras._kept) == 1  # the tensors of the replaced file are freed
    known = generator(sd, late=shelf / "late.safetensors")
    by._loras.restore()
    assert (second == generate(known, "late")).all()
    known._loras.restore()


def test_a_deleted_one_is_unknown_and_leaves_no_trace(sd, shelf):
    by = watching(sd, shelf)
    plain = generate(by)
    publish(shelf, "late", sd[0])
    generate(by, "late")
    (shelf / "late.safetensors").unlink()

    with pytest.raises(InvalidField, match="unknown adapter late"):
        generate(by, "late")
    assert (generate(by) == plain).all()
    assert by._loras._kept == {}


def test_one_of_the_model_itself_comes_before_a_published_one(sd, shelf, tmp_path):
    write_kohya(tmp_path / "own", random_layers(sd[0]))
    publish(shelf, "own", sd[0], seed=1)
    loras = Loras([("own", tmp_path / "own")], sd, FolderPlace(shelf))
    by = ImageGenerator(sd[0], SIZE, loras=loras)

    assert not by.is_outdated(GenerationRequest(prompt="a", lora="own"), -math.inf)
    assert described(by)["loras"] == ["own"]
    assert "published" not in described(by)
    own = generate(by, "own")
    by._loras.restore()
    assert (own == generate(generator(sd, own=tmp_path / "own"), "own")).all()


def test_files_that_are_none_say_so(sd, shelf):
    by = watching(sd, shelf)
    (shelf / "text.safetensors").write_text("not one")
    write_kohya(
        shelf / "nan.safetensors",
        {
            ("unet", "mid_block.resnets.0.conv1"): (
                torch.full((1, 32, 3, 3), float("nan")),
                torch.ones(32, 1, 1, 1),
            )
        },
    )
    for name in ("text", "nan"):
        for _ in range(2):
            with pytest.raises(InvalidField, match=f"lora: {name} cannot be used"):
                generate(by, name)


def test_a_place_that_does_not_answer_stops_no_other_request(sd, shelf, monkeypatch):
    by = watching(sd, shelf)
    plain = generate(by)

    monkeypatch.setattr(FolderPlace, "files", lambda _: broken())
    monkeypatch.setattr(published, "_FRESH_SECONDS", 10.0)
    with pytest.raises(AdaptersUnavailable):
        generate(by, "late")
    assert (generate(by) == plain).all()
    assert described(by)["loras"] == []


def test_a_model_in_8_bits_keeps_the_originals_of_all_it_rounded(stand_in, shelf, tmp_path):
    folder = stand_in()
    environ = {"EASEL_DEFAULTS": QUICK, "EASEL_DTYPE": "fp32", "EASEL_COMPILE": "off"}
    environ |= {"EASEL_STORAGE": "fp8", "EASEL_LORAS_FROM": str(shelf)}
    late = load_generator(folder, environ)
    bare = GenerationRequest(prompt="a cat", seed=7)
    plain = late.generate(bare).pixels
    ends = ("to_q", "conv1", "proj_in", "downsamplers.0.conv", "time_emb_proj")
    publish(shelf, "a", late._pipeline, ends=ends, parts=("unet",))

    known_folder = shutil.copytree(folder, tmp_path / "model")
    shutil.copytree(shelf, known_folder / "loras")
    known = load_generator(known_folder, {**environ, "EASEL_LORAS_FROM": ""})
    applied = GenerationRequest(prompt="a cat", seed=7, lora="a:0.2")
    late.update(applied)
    styled = late.generate(applied).pixels
    assert (styled == known.generate(applied).pixels).all()
    assert (known.generate(bare).pixels == plain).all()
    assert (styled != plain).any()
    assert (late.generate(bare).pixels == plain).all()


def test_a_compiled_model_is_not_compiled_again(stand_in, shelf):
    graphs = []

    def compile_module(module, **options):
        def backend(graph, _):
            graphs.append(graph)
            return graph.forward

        module.compile(backend=backend, **options)

    pipelines = load(stand_in())
    by = watching(pipelines, shelf)
    compiler = Compiler(pipelines, compile_module=compile_module)
    compiler.start("regional")
    plain = generate(by)
    compiled = len(graphs)
    publish(shelf, "late", pipelines[0])

    assert (generate(by, "late") != plain).any()
    assert (generate(by) == plain).all()
    assert len(graphs) == compiled > 0
    compiler.stop()


# Batches


@pytest.fixture
def engine(sd, shelf):
    by = ImageGenerator(copy(sd[0]), SIZE, loras=Loras([], sd, FolderPlace(shelf)))
    yield Engine(by, Sizes({1: 1.0, 2: 1.0}))
    by._loras.restore()


def prepared(engine, wanted):
    """Do what the server does with a request before it is checked."""
    engine._generator.update(wanted)
    return wanted


def test_only_requests_with_adapters_are_prepared(engine, shelf, sd, monkeypatch):
    monkeypatch.setattr(published, "_FRESH_SECONDS", 10.0)
    model = SimpleNamespace(generator=lambda: engine._generator)
    assert inference.prepare_fn(request(), model, None) is None
    assert inference.prepare_fn(InvalidRequest("no", "prompt"), model, None) is None
    late = request(lora="late")
    publish(shelf, "late", sd[0])
    assert inference.prepare_fn(late, model, None)() is None
    assert engine.check(late) is None
    assert inference.prepare_fn(late, model, None) is None
    described = DescribeRequest()
    assert inference.prepare_fn(described, model, None) is None
    assert inference.predict_fn(described, model)["published"] == ["late"]


def test_a_change_that_the_caller_knows_of_is_read_at_once_or_reported(
    engine, shelf, sd, monkeypatch
):
    monkeypatch.setattr(published, "_FRESH_SECONDS", 10.0)
    model = SimpleNamespace(generator=lambda: engine._generator)
    late = request(lora="late")
    publish(shelf, "late", sd[0])
    prepared(engine, late)
    first = engine._generator.adapters(late)
    publish(shelf, "late", sd[0], seed=1)
    attributes = {"X-Amzn-SageMaker-Custom-Attributes": f"t;changed={time.time():.0f};within=9"}
    context = SimpleNamespace(get_request_header=lambda _, name: attributes.get(name))
    assert inference.prepare_fn(late, model, context)() is None
    assert engine._generator.adapters(late) != first

    monkeypatch.setattr(FolderPlace, "files", lambda _: broken())
    error = inference.prepare_fn(late, model, context)()
    assert isinstance(error, AdaptersUnavailable)
    assert isinstance(inference.predict_fn(late, model, context), AdaptersUnavailable)
    assert inference.prepare_fn(late, model, None) is None
    assert engine.check(late) is None  # what was fetched works for those that know of no change


def test_a_late_adapter_is_shared_by_the_requests_of_a_batch(engine, shelf, sd):
    publish(shelf, "late", sd[0])
    wanted = [prepared(engine, request(seed=seed, lora="late")) for seed in range(2)]
    apart = [result.pixels for each in wanted for result in paint(engine, each)]
    plain = paint(engine, request(seed=0))[0].pixels
    assert engine.fits(wanted[0])
    together = paint(engine, *wanted)

    assert [
        np.abs(a.astype(int) - b.pixels).max() <= 1 for a, b in zip(apart, together, strict=True)
    ] == [True, True]
    assert (apart[0] != plain).any()


def test_a_picture_that_has_begun_keeps_the_adapter_that_was_replaced(engine, shelf, sd):
    publish(shelf, "late", sd[0], seed=1)
    wanted = prepared(engine, request(seed=3, steps=4, lora="late"))
    (first,) = paint(engine, wanted)
    caller, other = Caller(), Caller()
    engine.add(wanted, caller)
    engine.step()
    publish(shelf, "late", sd[0], seed=2)
    prepared(engine, wanted)

    assert not engine.fits(wanted)  # the versions cannot share the weights
    engine.add(wanted, other)
    results = {}
    while engine.busy:
        results |= {id(watch): result for watch, result in engine.step()}
    assert np.array_equal(results[id(caller)].pixels, first.pixels)
    assert (results[id(other)].pixels != first.pixels).any()


def test_one_that_is_deleted_while_its_request_waits_is_unknown(engine, shelf, sd):
    publish(shelf, "late", sd[0])
    wanted = prepared(engine, request(lora="late"))
    assert engine.check(wanted) is None
    (shelf / "late.safetensors").unlink()
    prepared(engine, wanted)
    ((_, result),) = run(engine, [(0, wanted, Caller())])
    assert isinstance(result, InvalidRequest)
    assert result.field == "lora"


def test_the_log_says_why_a_place_was_not_read(engine, shelf, capsys):
    (shelf / "a.safetensors").symlink_to(shelf / "nowhere")
    wanted = prepared(engine, request(lora="late"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["loras_unavailable"]
    assert engine.seconds(wanted) == 0.0
