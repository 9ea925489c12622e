"""The trainer itself as a job: it trains the bundled model, and goes on after an interruption."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image, ImageDraw

from tests.conftest import ALL
from tests.endpoint.emulator.doubles import BUCKET, wait_until
from tests.endpoint.emulator.training.doubles import channel, job_request, spot
from tests.packages import ROOT

WEIGHTS = ROOT / "model_package" / "demo" / "weights"
FIELDS = {
    "name": "zorble",
    "instance_prompt": "a zorble",
    "steps": 12,
    "rank": 2,
    "validate_every": 20,
    "checkpoint_seconds": 0,
}


def upload(s3, folder, prefix, files):
    for path in files:
        key = f"{prefix}/{path.relative_to(folder).as_posix()}"
        s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())


def picture(color):
    image = Image.new("RGB", (128, 128), color)
    ImageDraw.Draw(image).ellipse((24, 24, 104, 104), fill="cyan", outline="magenta", width=9)
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return packed.getvalue()


@pytest.mark.skipif(not ALL, reason="trains for seconds; runs with --all")
def test_the_trainer_runs_as_a_job_and_goes_on_after_an_interruption(jobs, s3, switches):
    place = "trainer"
    training = ROOT / "model_package" / "training"
    upload(s3, training.parent, f"{place}/code", training.glob("*.py"))
    code = ROOT / "model_package" / "code"
    upload(s3, code, f"{place}/code", [code / "generation.py"])
    upload(s3, WEIGHTS, f"{place}/model", (path for path in WEIGHTS.rglob("*") if path.is_file()))
    s3.put_object(Bucket=BUCKET, Key=f"{place}/job/job.json", Body=json.dumps(FIELDS).encode())
    for number, color in enumerate(("white", "blue")):
        s3.put_object(Bucket=BUCKET, Key=f"{place}/pictures/{number}.png", Body=picture(color))
    request = job_request(s3, "", **spot(Environment={"PYTHONPATH": "/opt/ml/input/data/code"}))
    request["AlgorithmSpecification"]["ContainerEntrypoint"] = ["python3", "-m", "training"]
    request["InputDataConfig"] = [
        channel(name, f"s3://{BUCKET}/{place}/{name}/")
        for name in ("code", "job", "pictures", "model")
    ]
    name = request["TrainingJobName"]
    jobs.sagemaker.create_training_job(**request)
    # The first checkpoint is in S3 while the job runs.
    wait_until(lambda: any(key.endswith(".pt") for key in jobs.keys(f"{name}/checkpoints/")))
    switches.interrupt_training(name)
    described = jobs.wait(name)
    assert described.get("FailureReason") is None
    assert described["TrainingJobStatus"] == "Completed"
    states = [item["Status"] for item in described["SecondaryStatusTransitions"]]
    assert states.count("Training") == 2
    assert any(line.startswith("resumed at step ") for line in jobs.log(name))
    result = f"{name}/output/{name}/output/model/"
    assert jobs.keys(result) == [f"{result}zorble.safetensors"]
    lines = [
        json.loads(line) for line in jobs.read(f"{name}/checkpoints/progress.jsonl").splitlines()
    ]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 13))
