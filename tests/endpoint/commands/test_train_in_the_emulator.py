"""`train` against emulated training jobs: real processes, channels, checkpoints and stops.

The trainer is a script of a few lines; the real one is tested with the gateway.
"""

from __future__ import annotations

import json
import time

import boto3
import pytest

from endpoint.commands import train
from endpoint.core.training_jobs import places
from endpoint.provision.training import trainer
from tests.endpoint.batch_account import Ticking
from tests.endpoint.core.training_jobs.adapter_files import tensors, written
from tests.endpoint.doubles import BUCKET, TRAINING_IMAGE, draw_picture, stored
from tests.model_folders import write_pipeline

TRAINER = """
import json, os, pathlib, signal, sys, time
home = pathlib.Path(os.environ["EASEL_TRAINING_HOME"])
channels = home / "input" / "data"
job = json.loads((channels / "job" / "job.json").read_text())
captions = sorted(path.read_text() for path in (channels / "pictures").glob("*.txt"))
assert len(captions) == 2 and (channels / "model" / "unet" / "config.json").is_file(), captions
if job["trigger"] == "fail":
    (home / "output").mkdir(exist_ok=True)
    (home / "output" / "failure").write_text("The disk is full; use a larger volume.")
    sys.exit(1)
progress = home / "checkpoints" / "progress.jsonl"
progress.parent.mkdir(exist_ok=True)
done = len(progress.read_text().splitlines()) if progress.is_file() else 0
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
for step in range(done + 1, job["steps"] + 1):
    with progress.open("a") as file:
        line = {"step": step, "loss": 1 / step, "rate": 1e-4, "seconds": 0.01, "cost": step / 1e3}
        file.write(json.dumps(line) + "\\n")
    if job["trigger"] == "slow" and done == 0 and step == 5:
        time.sleep(60)
(home / "checkpoints" / "samples").mkdir(exist_ok=True)
(home / "checkpoints" / "samples" / "step-00020.png").write_bytes(b"a sheet")
(home / "model").mkdir(exist_ok=True)
name = job["name"] + ".safetensors"
(home / "model" / name).write_bytes((channels / "code" / "adapter").read_bytes())
"""


@pytest.fixture
def start(aws, tmp_path, monkeypatch):
    """Return a function that runs `train` with two pictures."""
    monkeypatch.setattr(train, "PROJECTS", tmp_path / ".easel")
    package = tmp_path / "package"
    (package / "training").mkdir(parents=True)
    (package / "training" / "__main__.py").write_text(TRAINER)
    (package / "code").mkdir()
    (package / "code" / "generation.py").write_text("")
    monkeypatch.setattr(trainer, "_PACKAGE", package)
    files = trainer.code_files

    def with_adapter():
        path = package / "adapter"
        path.write_bytes(written(tensors()))
        return [*files(), trainer.File.read(path, "adapter")]

    monkeypatch.setattr(trainer, "code_files", with_adapter)
    photos = tmp_path / "photos"
    photos.mkdir()
    draw_picture(photos / "a.png", 0)
    draw_picture(photos / "b.png", 5)
    model = write_pipeline(tmp_path / "tiny")

    def run(name, trigger, *more):
        arguments = (str(photos), "--model", str(model), "--name", name, "--trigger", trigger)
        arguments += ("--steps", "20", "--image", TRAINING_IMAGE, "--yes", *more)
        return train.main(arguments, clock=Ticking())

    return run


def test_a_job_runs_and_its_adapter_is_published(start, capsys):
    assert start("water", "wtr", "--watch", "--json") == 0

    data = json.loads(capsys.readouterr().out)
    assert (data["state"], data["step"], data["steps"]) == ("published", 20, 20)
    assert len(data["samples"]) == 1
    assert stored(boto3, places.adapter("tiny", "water"))


def test_a_failure_is_the_trainers_sentence(start, capsys):
    assert start("full", "fail", "--watch") == 1

    said = capsys.readouterr().err
    assert "The training job full failed: The disk is full; use a larger volume." in said


def test_a_stopped_job_goes_on_where_it_was(start, capsys):
    assert start("oil", "slow") == 0
    identifier = json.loads(
        boto3.client("s3")
        .get_object(Bucket=BUCKET, Key=places.name_claim("tiny", "oil"))["Body"]
        .read()
    )["id"]
    until = time.monotonic() + 60
    while not stored(boto3, places.progress(identifier)):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert train.main(["--stop", "oil", "--yes"], clock=Ticking()) == 0
    assert "stopped, step 5 of 20" in capsys.readouterr().out
    assert train.main(["--resume", "oil", "--yes", "--watch", "--json"], clock=Ticking()) == 0

    data = json.loads(capsys.readouterr().out)
    assert (data["state"], data["step"]) == ("published", 20)
    assert [step for step, _ in data["loss"]] == list(range(1, 21))
