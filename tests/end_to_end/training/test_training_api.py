"""Fine-tuning through the gateway's API, with the emulator's training jobs behind it.

The trainer is a few lines that write what the real one writes, so that all states pass in a second;
with `--all`, the real one trains the demo model for two steps.
"""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from PIL import Image

from chalicelib.training_jobs import places
from tests.conftest import ALL
from tests.end_to_end.account import BUCKET
from tests.end_to_end.training.callers import CAPTION, KEYS, PICTURES, Client, send
from tests.gateway.training.doubles import adapter

ROOT = Path(__file__).parents[3]
CODE, REAL = "training/code/standin/", "training/code/real/"
REAL_WEIGHTS = "training/weights/real/0123456789abcdef/"
# Writes a line and a sheet; with "wait" for a trigger, it goes on until it is stopped once.
TRAINER = """
import json, os, pathlib, signal, sys, time
home = pathlib.Path(os.environ["EASEL_TRAINING_HOME"])
channels, checkpoints = home / "input" / "data", home / "checkpoints"
job = json.loads((channels / "job" / "job.json").read_text())
captions = [path for path in (channels / "pictures").iterdir() if path.suffix == ".txt"]
if job["trigger"] == "fail":
    (home / "output").mkdir(exist_ok=True)
    (home / "output" / "failure").write_text(f"{len(captions)} captions are too few.")
    sys.exit(1)
(checkpoints / "samples").mkdir(exist_ok=True)
with (checkpoints / "progress.jsonl").open("a") as file:
    step = len((checkpoints / "progress.jsonl").read_text().splitlines()) + 1
    file.write(json.dumps({"step": step, "loss": 1.5, "seconds": 1.0, "cost": 0.1}) + "\\n")
(checkpoints / "samples" / "step-00000.png").write_bytes(
    next(iter((channels / "pictures").glob("*.png"))).read_bytes())
if job["trigger"] == "wait" and step == 1:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    time.sleep(600)
(home / "model").mkdir(exist_ok=True)
(home / "model" / (job["name"] + ".safetensors")).write_bytes(bytes.fromhex("ADAPTER"))
"""


@pytest.fixture
def client(monkeypatch, account):
    script = TRAINER.replace("ADAPTER", adapter().hex())
    account.put_object(Bucket=BUCKET, Key=f"{CODE}training/__main__.py", Body=script.encode())
    return Client(monkeypatch, CODE)


def test_pictures_become_an_adapter_that_has_a_url(client, account):
    dataset = client.upload(*PICTURES, CAPTION)
    job = client.start(dataset=dataset, name="fox", trigger="a fxo", steps=3)
    shown = client.wait(job, "published")

    assert (shown["step"], shown["loss"], shown["error"]) == (1, [[1, 1.5]], None)
    url = "/inference/a%20fxo?model=demo&lora=fox"
    assert shown["result"] == {"lora": "fox", "url": url, "prompt": "a fxo"}
    assert shown["cost"]["so_far"] <= shown["cost"]["most"]
    sheet = client.get(shown["samples"][0], **KEYS)
    assert Image.open(io.BytesIO(sheet.body)).size == (64, 64)
    assert b"<svg" in client.get(shown["curve"], **KEYS).body
    key = places.adapter("demo", "fox")
    assert account.get_object(Bucket=BUCKET, Key=key)["Body"].read() == adapter()

    assert client.request("DELETE", "/loras/demo/fox", **KEYS).status_code == 204
    assert "Contents" not in account.list_objects_v2(Bucket=BUCKET, Prefix=key)


def test_a_form_takes_what_it_is_for_and_nothing_else(client):
    body = PICTURES[0][1]
    asked = {"files": [{"type": "image/png", "size": len(body)}]}
    (upload,) = json.loads(client.post("/datasets", asked, **KEYS).body)["uploads"]

    def changed(**fields):
        return {**upload, "fields": {**upload["fields"], **fields}}

    key = upload["fields"]["key"]
    for wrong in (
        changed(key=key.replace("0001", "0002")),
        changed(key="loras/demo/fox.safetensors"),
        changed(**{"Content-Type": "text/html"}),
    ):
        assert send(wrong, body).status_code == 403
    assert send(upload, body + b"x").status_code == 400
    assert send(upload, b"").status_code == 400
    assert send(upload, body).status_code == 204


def test_a_failure_is_the_trainers_own_sentence_and_the_name_is_free_again(client):
    dataset = client.upload(*PICTURES, CAPTION)
    for _ in range(2):
        job = client.start(dataset=dataset, name="fox", trigger="fail")
        until = time.monotonic() + 60
        while (shown := client.show(job))["state"] != "failed":
            assert time.monotonic() < until, shown
            time.sleep(0.05)
        assert shown["error"] == "1 captions are too few."


def test_a_cancelled_job_goes_on_where_it_stopped(client):
    dataset = client.upload(*PICTURES)
    job = client.start(dataset=dataset, name="owl", trigger="wait")
    until = time.monotonic() + 60
    while not client.show(job)["samples"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    second = client.post("/train", {"dataset": dataset, "name": "x", "trigger": "a"}, **KEYS)
    assert (second.status_code, second.headers["Location"]) == (409, f"/train/{job}")

    response = client.post(f"/train/{job}/cancel", {}, **KEYS)
    assert json.loads(response.body)["state"] == "stopping"
    client.wait(job, "stopped")
    assert client.post(f"/train/{job}/resume", {}, **KEYS).status_code == 202
    shown = client.wait(job, "published")
    assert (shown["attempt"], shown["step"]) == (2, 2)


@pytest.mark.skipif(not ALL, reason="takes twenty seconds of a processor")
def test_the_real_trainer_trains_the_bundled_model(monkeypatch, account):
    package, weights = ROOT / "model_package", ROOT / "model_package" / "demo" / "weights"
    files = {f"training/{path.name}": path for path in (package / "training").glob("*.py")}
    files["generation.py"] = package / "code" / "generation.py"
    for name, path in files.items():
        account.put_object(Bucket=BUCKET, Key=REAL + name, Body=path.read_bytes())
    for path in weights.rglob("*"):
        if path.is_file():
            key = f"{REAL_WEIGHTS}{path.relative_to(weights)}"
            account.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    client = Client(monkeypatch, REAL, REAL_WEIGHTS)
    dataset = client.upload(*PICTURES)
    fields = {"steps": 2, "rank": 2, "resolution": 64, "sample_prompts": ["a fox"]}
    job = client.start(dataset=dataset, name="real", trigger="a fox", **fields)
    shown = client.wait(job, "published", seconds=300)

    assert [step for step, _ in shown["loss"]] == [1, 2]
    assert len(shown["samples"]) == 2
