"""The page at `/api/` as a person uses it, in a real browser.

Its policy allows no eval, so nothing here waits by Playwright's `wait_for_function`.
"""

from __future__ import annotations

import json
import re
from typing import Any

import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.end_to_end.access import KEY

PAINTED = "image => image.decode().then(() => image.naturalWidth)"
BYTES = "staged.blob.arrayBuffer().then(buffer => Array.from(new Uint8Array(buffer)))"

NASTY = 'it\'s "quoted" $(touch stolen) `touch stolen` \\ ; & | * ? # %'


class BrowserSession:
    """A browser context with one page, which collects every error in it."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self._note(str(error)))
        self.page.on("console", lambda said: said.type == "error" and self._note(said.text))

    def _note(self, text: str) -> None:
        # Chromium logs each answer that is an error; the page shows it in words. Firefox logs that
        # a picture opened by itself, in which nothing else may load, gets no icon.
        if not text.startswith("Failed to load resource") and "/favicon.ico" not in text:
            self.errors.append(text)


class Studio:
    """What can be done with the page."""

    def __init__(self, page, url):
        self.page = page
        self.url = f"{url}/"
        self.prompt = page.get_by_role("textbox", name="Prompt", exact=True)
        self.picture = page.locator("#picture")
        self.cards = page.locator("#cards > li")
        self.busy = page.locator("#cards .busy")

    def open(self):
        self.page.goto(self.url)
        expect(self.page.locator("#options")).to_be_visible()
        return self

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def ask(self, prompt):
        self.prompt.fill(prompt)
        self.button("Paint").click()
        return self

    def paint(self, prompt):
        self.ask(prompt)
        expect(self.page.locator("#words")).to_have_text(prompt)
        expect(self.busy).to_have_count(0)
        expect(self.picture).to_be_visible()
        self.announced(f"Painted in .* s: {re.escape(prompt)}")
        return self

    def announced(self, words):
        """Wait for what a screen reader has been given last."""
        expect(self.page.get_by_role("status")).to_have_text(re.compile(f"^{words}$"))

    def option(self, name):
        return self.page.get_by_label(name, exact=True)

    def unfold(self):
        self.page.get_by_text("Options").first.click()
        return self

    def answer(self, path, status=200, body="", **headers):
        """Replace the gateway's answer."""
        text = body if isinstance(body, str) else json.dumps(body)
        sent = {"Content-Type": "application/json", **headers}
        self.page.route(
            f"{self.url}{path}",
            lambda route: route.fulfill(status=status, body=text, headers=sent),
        )

    def offer(self, gateway_url, **changes):
        """Change parts of what /api/options returns."""
        options = requests.get(f"{gateway_url}/options", timeout=30).json()
        self.answer("options", body={**options, **changes})
        return self


def error(code, message, **more):
    return {"error": {"code": code, "message": message, **more}}


def sign_in(studio):
    studio.button("Sign in").click()
    give_key(studio, KEY)
    expect(studio.button("Sign out")).to_be_visible()
    expect(studio.page.get_by_role("dialog")).to_be_hidden()


def give_key(studio, key):
    studio.page.get_by_role("dialog").get_by_label("Key").fill(key)
    studio.page.keyboard.press("Enter")


def violations(page):
    """Return what axe-core finds wrong: the rule, and where."""
    results = Axe().run(page)
    return [
        (violation["id"], [node["html"][:120] for node in violation["nodes"]])
        for violation in results.response["violations"]
    ]
