"""A gateway that trains in the emulated account, and what is uploaded to it."""

from __future__ import annotations

import io
import json
import time

import requests
from PIL import Image

import app as gateway
from chalicelib.aws.clients import LazyClient
from chalicelib.dialects.training import TrainingApi
from chalicelib.training.service import TrainingService
from chalicelib.training_settings import TrainingSettings
from tests.end_to_end.training_gateway import CODE, WEIGHTS, training_setting
from tests.gateway.doubles import KEY, GuardedClient, guarded

KEYS = {"x_api_key": KEY}


class Client(GuardedClient):
    """A client of a gateway that trains in the emulated account."""

    def __init__(self, monkeypatch, code=CODE, weights=WEIGHTS, **entry):
        model = {"seconds_per_step": 0.2, "start_seconds": 10, "resolution": 128, **entry}
        text = training_setting({"demo": {"weights": weights, **model}}, code=code)
        training = TrainingSettings.read(text)
        super().__init__(monkeypatch, guarded(), 24)
        self.settings = self.settings.__class__(**{**vars(self.settings), "training": training})
        self.training = TrainingService(
            self.settings, training, LazyClient("s3", 5), LazyClient("sagemaker", 10)
        )
        api = TrainingApi(self.settings, self.training)
        monkeypatch.setattr(gateway, "training", lambda: api)

    def invoke(self, event):
        """Handle an invocation of the Lambda function."""
        return gateway.app(event, None)

    def upload(self, *files):
        """Upload files as a page does, and return the id of their data set."""
        asked = [{"type": kind, "size": len(body), **more} for kind, body, more in files]
        described = json.loads(self.post("/datasets", {"files": asked}, **KEYS).body)
        for upload, (_, body, _) in zip(described["uploads"], files, strict=True):
            assert send(upload, body).status_code == 204
        return described["dataset"]

    def start(self, **fields):
        response = self.post("/train", fields, **KEYS)
        assert response.status_code == 202, response.body
        return json.loads(response.body)["id"]

    def show(self, job):
        response = self.get(f"/train/{job}", **KEYS)
        assert response.status_code == 200, response.body
        return json.loads(response.body)

    def wait(self, job, *states, seconds=120):
        until = time.monotonic() + seconds
        while (shown := self.show(job))["state"] not in states:
            assert shown["state"] != "failed", shown
            assert time.monotonic() < until, shown
            time.sleep(0.05)
        return shown


def send(upload, body):
    return requests.post(upload["url"], data=upload["fields"], files={"file": body}, timeout=30)


def picture(color):
    file = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(file, "png")
    return file.getvalue()


PICTURES = [("image/png", picture(color), {}) for color in ("teal", "red")]
CAPTION = ("text/plain", b"a fox in the snow", {"caption_of": 0})
