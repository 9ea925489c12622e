"""Starts the browsers of this machine; Chromium can also be Playwright's own."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from playwright.sync_api import Browser, Playwright, expect, sync_playwright

# The headless shell first, which Playwright starts by default too: it is Chromium without windows,
# and needs half of the processor time.
CHROMIUM = (
    "chromium-headless-shell",
    "chrome-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
)
FIREFOX = ("firefox-esr", "firefox")
# Without these Chromium contacts hosts of Google's at every start.
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
# Animations take much processor time without a GPU. Firefox has no setting for each context.
STILL: dict[str, str | float | bool] = {"ui.prefersReducedMotion": 1}

# On a busy machine, what a page requests of the emulated AWS takes longer than Playwright's 5 s.
expect.set_options(timeout=30_000)


def find(*names: str) -> str | None:
    """Return the path of the first of these programs that is installed."""
    return next(filter(None, map(shutil.which, names)), None)


def missing(what: str) -> NoReturn:
    """Skip for want of a browser; fail where everything has to be there."""
    give_up = pytest.fail if os.environ.get("CI") else pytest.skip
    give_up(f"{what} is not installed here")


_running: list[Playwright] = []


@contextmanager
def _playwright() -> Iterator[Playwright]:
    """Start Playwright, which a process can have once: a second browser shares it."""
    if _running:
        yield _running[0]
        return
    with sync_playwright() as playwright:
        _running.append(playwright)
        try:
            yield playwright
        finally:
            _running.clear()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a headless Chromium; without its sandbox, which does not work as root."""
    with _playwright() as playwright:
        arguments = ["--no-sandbox", "--no-first-run", "--disable-quic", *QUIET]
        browser = playwright.chromium.launch(executable_path=find(*CHROMIUM), args=arguments)
        yield browser
        browser.close()


@contextmanager
def firefox() -> Iterator[Browser]:
    """Start a headless Firefox through `firefox_relay.py`, which runs in this Python."""
    program = find(*FIREFOX) or missing("Firefox (Debian's package firefox-esr)")
    relay = Path(__file__).with_name("firefox_relay.py")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with _playwright() as playwright:
        browser = playwright.firefox.launch(
            executable_path=relay,
            channel="moz-firefox",
            env={**os.environ, "PATH": path, "FIREFOX": program},
            firefox_user_prefs=STILL,
        )
        yield browser
        browser.close()
