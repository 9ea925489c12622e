"""A batch as a training job paints it: the endpoint's pictures, and what an interruption leaves."""

from __future__ import annotations

import json
import signal

import pytest
import torch

from easel.errors import GenerationFailed, InvalidRequest
from easel.load import load_generator
from easel.serving.response import encode_file
from generation import GenerationRequest
from model_package.batch import __main__ as main

LINES = [
    ("000000-a.png", {"prompt": "a cat", "seed": 1}),
    ("000001-b.webp", {"prompt": "a dog", "seed": 2, "format": "webp"}),
    ("000002-c.png", {"prompt": "a bird", "seed": 3, "steps": 3}),
    ("000003-d.png", {"prompt": "a fish", "seed": 4, "lora": "missing"}),
]
PAINTED = ["000000-a.png", "000001-b.webp", "000002-c.png"]


@pytest.fixture
def home(tmp_path, stand_in, monkeypatch):
    """A training job's folder with four lines, one of which no model can paint."""
    monkeypatch.setenv("EASEL_TRAINING_HOME", str(tmp_path))
    monkeypatch.setenv("TRAINING_JOB_NAME", "job-1")
    channels = tmp_path / "input" / "data"
    (channels / "lines").mkdir(parents=True)
    (channels / "model").symlink_to(stand_in())
    write(tmp_path, LINES)
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


def write(home, lines):
    rows = (json.dumps({"file": file, "request": request}) for file, request in lines)
    (home / "input" / "data" / "lines" / "lines.jsonl").write_text("\n".join(rows))


def files(home):
    return sorted(path.name for path in (home / "checkpoints").iterdir())


def failures(home):
    text = (home / "checkpoints" / main.FAILURES).read_text()
    return [json.loads(row) for row in text.splitlines()]


def failure(home):
    return (home / "output" / "failure").read_text()


class Engine:
    """An engine whose results are set: what `step` returns for each request, by its seed."""

    capacity = 2

    def __init__(self, results, signals=None):
        self._results, self._waiting = results, []
        self.asked = []

    def add(self, request, watch):
        self.asked.append(request.seed)
        self._waiting.append((watch, self._results(request)))

    def step(self):
        finished, self._waiting = self._waiting, []
        return finished


def paint(home, monkeypatch, results):
    engine = Engine(results)
    monkeypatch.setattr(main, "load_generator", lambda *_: None)
    monkeypatch.setattr(main, "make_engine", lambda _: engine)
    return main.main(), engine


def test_the_pictures_are_the_endpoints_and_a_poisoned_line_fails_alone(
    home, stand_in, monkeypatch
):
    monkeypatch.setenv("EASEL_BATCH", "1")  # as the endpoint paints a request that is alone

    assert main.main() == 0

    assert files(home) == [*PAINTED, main.FAILURES, main.PAINTED]
    (failed,) = failures(home)
    assert (failed["file"], failed["status"], failed["job"]) == ("000003-d.png", 400, "job-1")
    assert "missing" in failed["message"]
    generator = load_generator(
        stand_in(), {"EASEL_DEFAULTS": '{"steps": 2, "width": 64, "height": 64}'}
    )
    image = generator.generate(GenerationRequest.from_dict(LINES[0][1]))
    assert (home / "checkpoints" / PAINTED[0]).read_bytes() == encode_file(image)


def test_what_is_painted_is_not_painted_again_and_what_was_cut_is(home, monkeypatch):
    folder = home / "checkpoints"
    folder.mkdir()
    (folder / PAINTED[0]).write_bytes(b"a picture")
    (folder / f"{PAINTED[1]}.writing").write_bytes(b"half of one")
    (folder / main.FAILURES).write_text('{"file": "000002-c.png", "job": "job-1"}\n{"file": "0000')

    code, engine = paint(home, monkeypatch, lambda _: InvalidRequest("no"))

    assert code == 0
    assert sorted(engine.asked) == [2, 4]
    assert (folder / PAINTED[0]).read_bytes() == b"a picture"
    assert [row["file"] for row in failures(home)] == [
        "000002-c.png", "000001-b.webp", "000003-d.png",
    ]  # fmt: skip


def test_what_failed_in_an_earlier_job_is_tried_again(home, monkeypatch):
    folder = home / "checkpoints"
    folder.mkdir()
    (folder / main.FAILURES).write_text('{"file": "000000-a.png", "job": "job-0"}\n')

    _, engine = paint(home, monkeypatch, lambda _: InvalidRequest("no"))

    assert sorted(engine.asked) == [1, 2, 3, 4]


def test_an_accident_is_tried_once_more(home, monkeypatch):
    code, engine = paint(home, monkeypatch, lambda _: GenerationFailed("NaN"))

    assert code == 0
    assert sorted(engine.asked) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert {row["status"] for row in failures(home)} == {500}


def test_ten_accidents_one_after_the_other_end_the_job(home, monkeypatch):
    write(home, [(f"{seed:06}-a.png", {"prompt": "a", "seed": seed}) for seed in range(20)])

    code, _ = paint(home, monkeypatch, lambda _: GenerationFailed("CUDA error"))

    assert code == 1
    assert failure(home) == "Ten pictures failed one after the other: CUDA error"


def test_a_signal_ends_it_between_two_steps(home, monkeypatch):
    def results(_):
        signal.raise_signal(signal.SIGTERM)
        return InvalidRequest("no")

    code, engine = paint(home, monkeypatch, results)

    assert code == 143
    assert len(engine.asked) == 4  # twice the capacity, in one turn
    assert not (home / "output").exists()


@pytest.mark.parametrize(
    "text", ["{", "5", '{"file": "a"}', '{"file": "a", "request": {"prompt": ""}}']
)
def test_lines_that_cannot_be_read_end_the_job(home, text):
    (home / "input" / "data" / "lines" / "lines.jsonl").write_text(text)

    assert main.main() == 1
    assert failure(home).startswith("lines.jsonl cannot be read")


def test_a_model_that_cannot_be_loaded_and_a_full_disk_are_said_in_a_sentence(home, monkeypatch):
    (home / "input" / "data" / "model").unlink()
    assert main.main() == 1
    assert "model" in failure(home)

    error = OSError(28, "No space left on device")
    assert main.sentence(error) == "The disk is full; start the job with a larger volume."
    assert main.sentence(ValueError("x")) == "The batch failed: ValueError: x"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_torch_does_not_see_ends_the_job(home):
    config = home / "input" / "config"
    config.mkdir()
    (config / "resourceconfig.json").write_text('{"current_instance_type": "ml.g5.xlarge"}')

    assert main.main() == 1
    assert failure(home).startswith("torch sees no GPU on ml.g5.xlarge")
