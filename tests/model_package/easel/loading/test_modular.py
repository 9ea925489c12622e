"""A modular pipeline is called, limited, reported and batched like any other."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from easel.batching.engine import Engine
from easel.batching.sizes import Sizes
from easel.errors import ModelUnusable, TooSlow
from easel.load import load_generator
from easel.model_folder.check import check
from easel.pipelines.time_limit import TimeLimit
from generation import GenerationRequest
from tests.model_package.doubles import families
from tests.model_package.easel.batching.runs import Caller, paint

ENVIRON = {"EASEL_DTYPE": "fp32", "EASEL_COMPILE": "off"}
QUICK = {"EASEL_DEFAULTS": '{"steps": 3, "width": 64, "height": 64}'}
REQUEST = GenerationRequest(prompt="a cat", seed=7)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    made = {}

    def make(name):
        if name not in made:
            made[name] = families.make_family(name, tmp_path_factory.mktemp(name))
        return made[name]

    return make


@pytest.fixture(scope="module")
def distilled(folder_of):
    return load_generator(folder_of("flux3-klein"), ENVIRON | QUICK)


@pytest.fixture(scope="module")
def base(folder_of):
    return load_generator(folder_of("flux3-klein-base"), ENVIRON | QUICK)


def changed(folder, target, **changes):
    """Copy a model's folder, and change its index."""
    shutil.copytree(folder, target)
    path = target / "modular_model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return target


def test_its_fields_and_limits_are_those_of_its_blocks_inputs(distilled, base):
    assert distilled.capabilities.takes == {"steps", "width", "height"}
    assert (distilled.capabilities.multiple, distilled.capabilities.defaults.steps) == (16, 16)
    assert distilled.capabilities.defaults.width == 1024
    assert base.capabilities.takes == {*distilled.capabilities.takes, "guidance_scale",
                                       "negative_prompt"}  # fmt: skip
    assert base.capabilities.defaults.guidance_scale == 3.5
    assert base.capabilities.defaults.steps == 50


def test_the_guidance_scale_is_that_of_the_request_and_of_no_later_one(base):
    first = base.generate(REQUEST).pixels
    stronger = GenerationRequest(prompt="a cat", seed=7, guidance_scale=9)
    avoided = GenerationRequest(prompt="a cat", seed=7, negative_prompt="a dog")

    assert (base.generate(stronger).pixels != first).any()
    assert (base.generate(avoided).pixels != first).any()
    assert (base.generate(REQUEST).pixels == first).all()


def test_a_run_ends_at_its_deadline_and_reports_its_steps(distilled):
    request, caller = distilled.complete(REQUEST), Caller()
    adapters = distilled.adapters(request)
    limit = TimeLimit(watch=caller)
    whole = distilled.paint(request, limit, distilled.ensemble, adapters, started=None).pixels
    with pytest.raises(TooSlow):
        distilled.generate(REQUEST, deadline=time.monotonic())
    leaving = TimeLimit(watch=Caller(leaves_after=1))
    with pytest.raises(TooSlow):
        distilled.paint(request, leaving, distilled.ensemble, adapters, started=None)

    assert caller.progress == [(1, 3), (2, 3), (3, 3)]
    assert (whole == distilled.generate(REQUEST).pixels).all()


@pytest.mark.parametrize("kind", ["distilled", "base"])
def test_a_picture_is_the_same_whoever_is_painted_with_it(request, kind):
    engine = Engine(request.getfixturevalue(kind), Sizes({2: 1.0}, exact=True))
    other = GenerationRequest(prompt="a dog", seed=8, steps=2)
    (alone,) = paint(engine, REQUEST)
    among, _ = paint(engine, REQUEST, other)

    assert (alone.pixels == among.pixels).all()


def test_what_rewrites_prompts_is_neither_needed_nor_loaded(distilled, folder_of):
    assert not [fault for fault in check(folder_of("flux3-klein")) if fault.fatal]
    assert "prompt_upsampler" not in distilled._pipeline.components


def test_a_component_of_another_repository_is_reported_and_no_fault(folder_of, tmp_path):
    folder = shutil.copytree(folder_of("flux3-klein"), tmp_path / "model")
    shutil.rmtree(folder / "text_encoder")
    (fault,) = check(folder)

    assert not fault.fatal
    assert str(fault) == (
        "text_encoder/ is not here, and modular_model_index.json names somebody/published: it is "
        "fetched from the hub when the model loads"
    )
    (fault,) = check(folder, offline=True)
    assert fault.fatal
    assert str(fault).endswith("copy it from there, because the model loads without the hub")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"_class_name": "Strange"}, "has no Strange; use an image with a newer one"),
        ({"_class_name": "StableDiffusionPipeline"}, "does not name unet"),
        ({"vae": [None, None, {}]}, "does not name vae"),
    ],
)
def test_an_index_that_diffusers_does_not_know_is_refused(folder_of, tmp_path, changes, reason):
    folder = changed(folder_of("flux3-klein"), tmp_path / "model", **changes)
    with pytest.raises(ModelUnusable, match=reason):
        load_generator(folder, ENVIRON | QUICK)


def test_blocks_of_the_repositorys_own_code_are_not_run(folder_of, tmp_path):
    folder = changed(
        folder_of("flux3-klein"),
        tmp_path / "model",
        _blocks_class_name="Custom",
        auto_map={"ModularPipelineBlocks": "block.Custom"},
    )
    (folder / "block.py").write_text("raise SystemExit('run')")

    assert load_generator(folder, ENVIRON | QUICK).generate(REQUEST).pixels.shape == (64, 64, 3)
