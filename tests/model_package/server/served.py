"""The real server's process, with the script in `script/`, and a client of it."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import urllib3

from endpoint.emulator.process.processes import free_port

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).parent / "script"
# For what is expected at once, also on a busy machine.
PATIENCE = 60


class Server:
    """A process of `python -m server`, and requests to it."""

    def __init__(self, folder, *arguments, code=SCRIPT, serve=True, **variables):
        self.folder, self.port = folder, free_port()
        self.log = folder / "server.log"
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-W", "error", "-m", "server", *(["serve"] if serve else [])]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--model", str(folder), "--code", str(code), *arguments]
        environment = {name: value for name, value in os.environ.items() if "EASEL" not in name}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT / "model_package",
                env={**environment, "SCRIPT_FOLDER": str(folder), **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._pool = urllib3.PoolManager(maxsize=300, block=False)

    def request(self, method, path, body=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._pool.request(
            method, self.url + path, body=body, headers=named, retries=False, timeout=PATIENCE
        )

    def get(self, path, **headers):
        return self.request("GET", path, **headers)

    def invoke(self, prompt="a cat", *, headers=None, **fields):
        body = json.dumps({"prompt": prompt, **fields})
        headers = {"Content_Type": "application/json", "Accept": "image/png", **(headers or {})}
        return self.request("POST", "/invocations", body, **headers)

    def ping(self):
        return self.get("/ping").status

    def health(self):
        return self.get("/health").json()

    def until(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.output()
            time.sleep(0.01)

    def listening(self):
        self.until(lambda: "listening" in self.output() or self.process.poll() is not None)
        return self

    def ready(self):
        self.listening().until(lambda: self.process.poll() is not None or self.ping() == 200)
        return self

    def until_counts(self, waiting, painting):
        def counted():
            queue = self.health()["queue"]
            return (queue["waiting"], queue["painting"]) == (waiting, painting)

        self.until(counted)

    def open(self, name):
        """Let steps that wait for a file go on."""
        (self.folder / name).touch()

    def painted(self):
        """Return the prompts of all steps so far."""
        file = self.folder / "painted"
        return file.read_text().split("\n")[:-1] if file.exists() else []

    def output(self):
        return self.log.read_text("utf-8")

    def events(self, name):
        lines = [line for line in self.output().splitlines() if line.startswith('{"event"')]
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def end(self, number=signal.SIGTERM):
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def connect(self, prompt, **fields):
        """Send a request on a connection of its own, which the caller can close."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        body = json.dumps({"prompt": prompt, **fields})
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        return connection


@contextmanager
def serving(folder, *arguments, **variables):
    server = Server(folder, *arguments, **variables)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


class Callers:
    """Calls in threads, and their responses in the order in which the calls began."""

    def __init__(self):
        self.threads, self.responses = [], []

    def call(self, function):
        place = len(self.responses)
        self.responses.append(None)

        def run():
            self.responses[place] = function()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.threads.append(thread)

    def statuses(self):
        for thread in self.threads:
            thread.join(PATIENCE)
        return [response.status for response in self.responses]


def unique(word="gate"):
    return f"{word}-{secrets.token_hex(4)}"
