"""A script whose engine does what each request says; SCRIPT_FOLDER has its files.

A request is JSON: `prompt`; `steps` (1); `wait`, a file for which each step waits; `prepare`, a
file for which its preparation waits; `write`, one for which its response does; `fail`, the text of
an exception; `die`, which ends the worker. The file `painted` gets a line for each step.
"""

import json
import math
import os
import time
from pathlib import Path

HOME = Path(os.environ["SCRIPT_FOLDER"])
CAPACITY = int(os.environ.get("SCRIPT_CAPACITY", "4"))
SECONDS = float(os.environ.get("SCRIPT_SECONDS", "0"))


def wait_for(name, phase=None):
    if name and phase:
        (HOME / f"{phase} began").touch()
    while name and not (HOME / name).exists():
        time.sleep(0.002)


def model_fn(model_dir):
    wait_for(os.environ.get("SCRIPT_LOADING"))
    if (HOME / "broken").exists():
        raise OSError("weights are damaged")
    return model_dir


def input_fn(body, content_type):
    if content_type != "application/json":
        raise ValueError("Content-Type: must be application/json")
    request = json.loads(body)
    if not isinstance(request, dict) or "prompt" not in request:
        raise ValueError("prompt: is missing")
    return request


def predict_fn(request, model):
    return {"described": os.environ.get(request["variable"]) if "variable" in request else model}


def output_fn(prediction, accept, context):
    if isinstance(prediction, Failure):
        context.set_response_status(prediction.status, "", 0)
        return json.dumps({"error": {"code": prediction.code, "message": str(prediction)}})
    if "described" in prediction:
        return json.dumps(prediction)
    if prediction.get("headers"):
        context.set_response_header(0, "X-Long", "x" * prediction["headers"])
    wait_for(prediction.get("write"), "write")
    if prediction.get("unwritable"):
        raise RuntimeError("cannot be encoded")
    return b"\x89PNG" + prediction["prompt"].encode() * prediction.get("times", 1)


def engine_fn(model):
    return Engine()


def prepare_fn(request, model, context):
    return (lambda: wait_for(request["prepare"], "prepare")) if "prepare" in request else None


def deadline_fn(context):
    stated = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes") or ""
    kind, _, seconds = stated.rpartition(";")[2].partition("=")
    return time.monotonic() + float(seconds) if kind == "within" else math.inf


class Failure(Exception):
    """What an engine returns instead of a picture, as Easel's own errors."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code = status, code


class Engine:
    capacity = CAPACITY

    def __init__(self):
        self.runs = []

    @property
    def busy(self):
        return bool(self.runs)

    def check(self, request):
        return (
            Failure(400, "invalid_request", "lora: no such adapter")
            if request.get("lora")
            else None
        )

    def fits(self, request):
        return len(self.runs) < self.capacity

    def seconds(self, request):
        return None if "describe" in request else request.get("seconds", SECONDS)

    def add(self, request, watch):
        self.runs.append([request, watch, 0])

    def step(self):
        finished = []
        for run in list(self.runs):
            request, watch, done = run
            wait_for(request.get("wait"))
            run[2] = done + 1
            with (HOME / "painted").open("a") as file:
                file.write(request["prompt"] + "\n")
            if request.get("die"):
                raise SystemError("the engine is broken")
            result = self.result(request, watch, run[2])
            if result is not None:
                self.runs.remove(run)
                finished.append((watch, result))
        return finished

    def result(self, request, watch, done):
        if "fail" in request:
            error = Failure(500, "generation_failed", "It failed.")
            error.__cause__ = RuntimeError(request["fail"])
            return error
        steps = request.get("steps", 1)
        watch.progressed(done, steps)
        if watch.wants_preview():
            import numpy as np

            watch.preview(np.zeros((2, 3, 3), np.uint8))
        if watch.cancelled():
            return Failure(504, "too_slow", "The caller has left.")
        return request if done == steps else None

    def describe(self):
        return {"capacity": self.capacity, "mode": "double"}
