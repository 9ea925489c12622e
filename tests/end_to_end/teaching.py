"""The page at `/api/teach` as a person uses it, in a real browser."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image
from playwright.sync_api import Page, expect

from tests.end_to_end.studio import Studio

JOB = {
    "id": "abcdefghijkl",
    "name": "fox",
    "model": "sd",
    "state": "training",
    "step": 5,
    "steps": 20,
    "created": "2026-11-26T08:00:00+00:00",
    "error": None,
    "loss": [[step, 1 / step] for step in range(1, 6)],
    "validation": [[5, 0.3]],
    "samples": [],
    "cost": {"so_far": 0.02, "most": 0.4, "currency": "USD"},
    "spot": True,
    "pictures": 2,
    "attempt": 1,
    "seconds_left": 90,
    "result": None,
}


def picture(name: str, size: tuple[int, int] = (64, 64), kind: str = "PNG") -> Any:
    """Return a file to be chosen."""
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, kind)
    return {"name": name, "mimeType": f"image/{kind.lower()}", "buffer": file.getvalue()}


def text(name: str, words: str) -> Any:
    """Return a caption's file to be chosen."""
    return {"name": name, "mimeType": "text/plain", "buffer": words.encode()}


class Teaching(Studio):
    """What can be done with the page."""

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.start = self.button("Start")
        self.state = page.locator("#job-state")

    def open(self, job=""):
        self.page.goto(f"{self.url}teach#{job}" if job else f"{self.url}teach")
        expect(self.page.locator("#job" if job else "#ask")).to_be_visible()
        return self

    def choose(self, *files):
        self.page.locator("#files").set_input_files(list(files))
        return self

    def fill(self, name, trigger="zibbly"):
        self.option("Trigger").fill(trigger)
        self.option("Name").fill(name)
        return self

    def wrong(self, name):
        return self.page.locator(f"#{name}-wrong")

    def show(self, **changes):
        """Open the page with a job of these values."""
        self.answer("train", body={"jobs": [{**JOB, **changes}]})
        self.answer(f"train/{JOB['id']}", body={**JOB, **changes})
        return self.open(JOB["id"])
