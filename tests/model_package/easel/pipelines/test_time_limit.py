"""A run that nobody waits for any more stops between two steps, and leaves nothing behind."""

import json
import shutil
import time

import pytest

import inference
from easel.defaults import Defaults
from easel.errors import TooSlow
from easel.generator import ImageGenerator
from easel.load import load_generator
from easel.pipelines.time_limit import TimeLimit
from easel.serving.response import encode_file
from generation import GenerationRequest
from tests.model_package.doubles.pipelines import PlainPipeline
from tests.model_package.doubles.toolkit import Context, Toolkit

STEPS = 4
REQUEST = GenerationRequest(
    prompt="a (cat:1.3)", negative_prompt="a dog", seed=7, steps=STEPS, width=64, height=64
)
OTHER = GenerationRequest(prompt="a dog", seed=8, steps=STEPS, width=72, height=64)


class Ticking:
    """A clock that counts how often it was read."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        self.now += 1
        return self.now


def own_refiner(folder, other):
    """Give a Stable Diffusion folder a refiner of its own kind."""
    shutil.copytree(folder, other)
    (other / "refiner").mkdir()
    shutil.copytree(folder / "unet", other / "refiner" / "unet")
    shutil.copy(folder / "model_index.json", other / "refiner")
    return other


@pytest.fixture(scope="module", params=["sd", "sd, refined", "sd, guidance cut", "ensemble"])
def generator(request, stand_in, tmp_path_factory):
    kind, _, more = request.param.partition(", ")
    folder, environ = stand_in(kind=kind), {"EASEL_DTYPE": "fp32"}
    if more == "refined":
        folder = own_refiner(folder, tmp_path_factory.mktemp("refined") / "model")
        environ["EASEL_DEFAULTS"] = '{"refiner_start": 0.5}'
    if more == "guidance cut":
        environ["EASEL_GUIDANCE_CUTOFF"] = "0.5"
    return load_generator(folder, environ)


def file_of(generator, request, deadline=float("inf")):
    return encode_file(generator.generate(request, deadline))


@pytest.fixture(scope="module")
def alone(generator):
    return file_of(generator, REQUEST)


def abandon(generator, monkeypatch, after):
    """Start a picture whose time is up after some steps; return how many were checked."""
    clock = Ticking()
    # The first look is before the first step.
    limit = TimeLimit(after + 0.5, clock)
    monkeypatch.setattr("easel.generator.TimeLimit", lambda _: limit)
    with pytest.raises(TooSlow):
        generator.generate(OTHER)
    monkeypatch.undo()
    return clock.now


@pytest.mark.parametrize("after", range(STEPS + 1))
def test_it_stops_at_its_next_step_and_the_next_picture_is_as_if_it_had_never_been(
    generator, alone, monkeypatch, after
):
    looks = abandon(generator, monkeypatch, after)

    assert looks == after + 1
    assert file_of(generator, REQUEST) == alone


def test_a_limit_that_is_kept_changes_no_byte(generator, alone):
    assert file_of(generator, REQUEST, time.monotonic() + 600) == alone


def test_a_pipeline_that_does_not_call_back_runs_to_its_end_or_not_at_all():
    pipeline = PlainPipeline()
    generator = ImageGenerator(pipeline, Defaults())
    assert generator.generate(REQUEST, time.monotonic() + 600).pixels.shape == (64, 64, 3)

    with pytest.raises(TooSlow):
        generator.generate(REQUEST, time.monotonic() - 1)
    assert len(pipeline.calls) == 1


def post(model, attributes):
    """Return the status and the body of a request that says how long its caller waits."""
    context = Context()
    context.headers = {"X-Amzn-SageMaker-Custom-Attributes": attributes}
    data = inference.input_fn(json.dumps({"prompt": "a cat"}), "application/json", context)
    response = inference.output_fn(inference.predict_fn(data, model, context), "image/png", context)
    return context.status, response


@pytest.mark.parametrize("past", ["id;until=1000000000.5", "id;within=0", "id; within=0.0"])
def test_a_request_whose_caller_has_left_is_a_504(quick_toolkit, past):
    status, response = post(quick_toolkit.model, past)

    assert status == 504
    assert json.loads(response)["error"]["code"] == "too_slow"


@pytest.mark.parametrize(
    "attributes",
    [
        None,
        "",
        "id",
        "id;within=600",
        "id;until=99999999999.5",
        "until=1",  # somebody's own attributes
        "id;until=soon",
        "id;until=-1",
        "id;until=1;x=2",
        "id;within=1e-9",
    ],
)
def test_any_other_request_is_not_limited(quick_toolkit, attributes):
    assert post(quick_toolkit.model, attributes)[0] == 200


def test_the_log_says_what_was_abandoned(quick_toolkit, capsys):
    post(quick_toolkit.model, "id;within=0")

    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"] == "picture_abandoned"


def test_the_toolkit_paints_after_it(stand_in):
    toolkit = Toolkit(stand_in())
    alone = toolkit.post({"prompt": "a cat", "seed": 1}, accept="image/png").body
    post(toolkit.model, "id;within=0")

    assert toolkit.post({"prompt": "a cat", "seed": 1}, accept="image/png").body == alone
