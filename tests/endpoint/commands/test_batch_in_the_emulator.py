"""`batch` in processes of its own, against emulated AWS over HTTP: killed, continued, on spot."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import boto3
import pytest

from endpoint.catalogue import training
from endpoint.commands import batch
from endpoint.core.usage_records import Kind, UsageRecord
from endpoint.emulator.client import EmulatorClient
from endpoint.emulator.process import clients
from endpoint.provision.batches import spot
from tests.conftest import ALL
from tests.endpoint.batch_account import MODEL, POISON, Ticking, account
from tests.endpoint.doubles import BUCKET, PNG
from tests.endpoint.world import REGION

ROOT = Path(__file__).parents[3]
LINES = 5_000 if ALL else 80


@pytest.fixture(scope="module")
def aws():
    with (
        account(0.01, environment={"EASEL_DTYPE": "fp16", "OTHER": "x"}) as servers,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in clients.environment(servers[0].url, REGION).items():
            patch.setenv(name, value)
        EmulatorClient(servers[0].url).set_training(mirror_seconds=0.1)
        yield servers


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    lines = [f"picture {number}" for number in range(LINES)]
    lines[LINES // 2] = POISON
    path.write_text("\n".join(lines))
    return path


def answers(file):
    rows = (file.parent / "out" / "results.jsonl").read_text().splitlines()
    return [json.loads(row) for row in rows]


def came(file):
    return len(list((file.parent / "out").glob("[!.]*.png")))


def test_a_batch_that_is_killed_twice_answers_every_line_once(aws, prompts):
    command = [sys.executable, "-m", "endpoint", "batch", str(prompts)]
    command += ["--out", str(prompts.parent / "out"), "--yes"]
    before = Counter(aws[1].painted)
    for share in sorted(random.sample(range(5, 95), 2)):
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            until = time.monotonic() + 300
            while process.poll() is None and came(prompts) < LINES * share // 100:
                assert time.monotonic() < until
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
    done = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["failed"] == 1
    results = answers(prompts)
    assert sorted(row["custom_id"] for row in results) == [f"{n:04}" for n in range(1, LINES + 1)]
    (failed,) = [row for row in results if row["response"]["status_code"] != 200]
    assert failed["custom_id"] == f"{LINES // 2 + 1:04}"
    assert failed["response"]["status_code"] == 422
    assert came(prompts) == LINES  # all but one, and the contact sheet
    # What was on its way when a process was killed may have been painted twice, and nothing else.
    painted = aws[1].painted - before
    assert len(painted) == LINES
    assert sum(painted.values()) - LINES <= 2 * 8 + 1


# --- Spot -----------------------------------------------------------------------------------------

JOB = """
import json, os, pathlib, signal, sys, time
home = pathlib.Path(os.environ["EASEL_TRAINING_HOME"])
channels, folder = home / "input" / "data", home / "checkpoints"
folder.mkdir(exist_ok=True)
assert (channels / "model" / "code" / "inference.py").is_file()
assert (channels / "loras" / "README.txt").is_file()
assert os.environ["EASEL_DTYPE"] == "fp16" and "OTHER" not in os.environ
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
rows = [json.loads(row) for row in (channels / "lines" / "lines.jsonl").read_text().splitlines()]
began = len(list(folder.iterdir()))
for row in rows:
    path = folder / row["file"]
    prompt = row["request"]["prompt"]
    if prompt == "poison":
        failure = {"file": row["file"], "status": 422, "message": "no",
                   "job": os.environ["TRAINING_JOB_NAME"]}
        with (folder / "failures.jsonl").open("a") as file:
            file.write(json.dumps(failure) + "\\n")
    elif prompt == "full disk" and not began:
        time.sleep(0.5)
        (home / "output").mkdir(exist_ok=True)
        (home / "output" / "failure").write_text("The disk is full.")
        sys.exit(1)
    elif not path.is_file():
        with (folder / "painted.jsonl").open("a") as file:
            file.write(json.dumps({"file": row["file"], "seconds": 1.5}) + "\\n")
        path.write_bytes((channels / "code" / "picture.png").read_bytes())
        time.sleep(float((channels / "code" / "seconds").read_text()))
"""


@pytest.fixture
def on_spot(aws, tmp_path, monkeypatch):
    """Return a function that runs a batch of lines with `--spot`, as a job of a few lines."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__main__.py").write_text(JOB)
    (package / "picture.png").write_bytes(PNG)
    (package / "seconds").write_text("0.01")
    monkeypatch.setattr(spot, "_PACKAGE", package)
    files = spot.code_files
    more = [package / "picture.png", package / "seconds"]
    monkeypatch.setattr(
        spot, "code_files", lambda: [*files(), *(spot.File.read(one, one.name) for one in more)]
    )
    s3 = boto3.client("s3")
    s3.put_object(Bucket=BUCKET, Key=f"models/{MODEL}/0/code/inference.py", Body=b"")

    def run(lines, *options, slowly=False):
        (package / "seconds").write_text("60" if slowly else "0.01")
        file = tmp_path / "prompts.txt"
        file.write_text("\n".join(lines))
        arguments = (str(file), "--out", str(tmp_path / "out"), "--spot", "--yes", *options)
        return batch.main(arguments, clock=Ticking())

    run.file = tmp_path / "prompts.txt"
    return run


def results(file):
    return {row["custom_id"]: row["response"]["status_code"] for row in answers(file)}


def jobs():
    listed = boto3.client("sagemaker").list_training_jobs(MaxResults=100)["TrainingJobSummaries"]
    return [job["TrainingJobName"] for job in listed if "-batch-" in job["TrainingJobName"]]


def test_a_spot_job_paints_and_a_poisoned_line_fails_alone(on_spot, capsys):
    assert on_spot(["a cat", POISON, "a dog"]) == 1

    assert results(on_spot.file) == {"0001": 200, "0002": 422, "0003": 200}
    output = capsys.readouterr().err
    assert "on one spot ml.g5.xlarge" in output
    (name,) = [name for name in jobs() if name.endswith("-1")][:1]
    description = boto3.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert description["EnableManagedSpotTraining"]
    assert description["EnableNetworkIsolation"]
    # Batches of other tests have recorded more in this bucket than one answer of S3's lists.
    pages = boto3.client("s3").get_paginator("list_objects_v2")
    records = pages.paginate(Bucket=BUCKET, Prefix="usage/records/").search("Contents[].Key")
    read = [UsageRecord.from_key(key.removeprefix("usage/")) for key in records]
    # 1.5 s of a g5.xlarge at 1.408 USD, with the discount of a spot instance.
    price = 1_408_000 * training.spot_share() * 1.5 / 3_600
    assert [(one.gpu_milliseconds, one.micro_usd) for one in read if one.kind is Kind.BATCH] == [
        (1_500, round(price))
    ] * 2


def test_a_spot_job_that_fails_is_continued_by_the_same_command(on_spot, capsys):
    lines = ["a red cat", "a red dog", "full disk", "a red bird"]
    assert on_spot(lines) == 1
    assert "The job failed: The disk is full." in capsys.readouterr().err

    assert on_spot(lines) == 0
    assert set(results(on_spot.file).values()) == {200}


def test_a_spot_job_is_joined_interrupted_and_stopped(on_spot, aws, capsys):
    lines = [f"a blue thing {number}" for number in range(4)]
    before = set(jobs())

    def later():
        until = time.monotonic() + 60
        while came(on_spot.file) < 1 and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=later)
    thread.start()
    assert on_spot(lines, slowly=True) == 130
    thread.join()
    assert "The job goes on and costs money" in capsys.readouterr().err
    (name,) = set(jobs()) - before
    # The instance is taken away, and the next one has the pictures; it is as slow, and stopped.
    EmulatorClient(aws[0].url).interrupt_training(name)
    assert on_spot(lines, "--stop") == 0
    assert f"{name} is stopped" in capsys.readouterr().out
    assert on_spot(lines, "--stop") == 0
    assert "No job of this batch runs" in capsys.readouterr().out

    assert on_spot(lines) == 0
    assert set(results(on_spot.file).values()) == {200}
    assert len(set(jobs()) - before) == 2
