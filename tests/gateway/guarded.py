"""A gateway with a door: keys, a bucket in memory, and a model at hand and one with a queue."""

import hashlib
import json

from chalice.test import Client

import app as gateway
from chalicelib.access_settings import Protection
from chalicelib.images.service import Painter
from chalicelib.settings import Model, Queue, Settings
from chalicelib.web.principal import Key
from tests.gateway.aws.test_sagemaker import Given
from tests.gateway.memory import Breaks, Bucket, Runs
from tests.gateway.test_app import PaintingClient

KEY = "easel-" + "k" * 43
OTHER_KEY = "easel-" + "o" * 43
SECRET = b"s" * 43
ORIGIN = "http://localhost"


def key(name="ada", text=KEY, **more):
    return Key(name, hashlib.sha256(text.encode()).digest(), **more)


def guarded(**more):
    """Return a Protection with one key and a place for the accounts of links."""
    given = {"keys": (key(),), "secrets": (SECRET,), "accounts": ("bucket", "links/")}
    return Protection(**{**given, **more})


class Runtime(PaintingClient):
    """A runtime client that paints at once, and queues."""

    def __init__(self):
        super().__init__(None)
        self.runs = Runs(Breaks())
        self.invoke_endpoint_async = self.runs.invoke_endpoint_async


class Guest:
    """Visits the gateway, and knows what reached a model."""

    def __init__(self, monkeypatch, protection, deadline_seconds=1.5):
        queue = Queue("easel-slow", "bucket", "jobs/")
        models = {"sd": Model("sd", "easel-sd"), "slow": Model("slow", None, queue)}
        # The deadline ends the waiting for a queued picture, which never comes.
        self.settings = Settings(models, deadline_seconds, False, protection=protection)
        self.runtime, self.bucket = Runtime(), Bucket(Breaks())
        self.painter = Painter(self.settings, Given(self.runtime), Given(self.bucket))
        self._monkeypatch = monkeypatch
        self._http = Client(gateway.app).http

    def visit(self, method, path, body=b"", **headers):
        self._monkeypatch.setattr(gateway, "settings", lambda: self.settings)
        self._monkeypatch.setattr(gateway, "painter", lambda: self.painter)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._http.request(method, path, headers=headers, body=body)

    def get(self, path, **headers):
        return self.visit("GET", path, **headers)

    def post(self, path, value, **headers):
        return self.visit("POST", path, json.dumps(value).encode(), **headers)

    def link(self, **fields):
        """Return the token of a new link."""
        answer = self.post("/links", fields, x_api_key=KEY)
        assert answer.status_code == 201, answer.body
        return json.loads(answer.body)["url"].partition("?link=")[2]

    def sign_in(self, text=KEY):
        """Return the cookie header of a browser that is signed in."""
        answer = self.post("/session", {"key": text})
        assert answer.status_code == 204, answer.body
        return cookies_of(answer)

    @property
    def painted(self):
        return len(self.runtime.asked)

    @property
    def queued(self):
        return len(self.runtime.runs.queued)


def cookies_of(answer):
    given = answer.headers.get("Set-Cookie", [])
    given = [given] if isinstance(given, str) else given
    return "; ".join(each.partition(";")[0] for each in given)


def error_of(answer):
    return json.loads(answer.body)["error"]
