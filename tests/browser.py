"""A real Chromium: Debian's, the system's, or Playwright's own, whichever is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Without these Chromium looks for hosts of its maker's at every start.
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a headless Chromium; without its sandbox, which root may not use."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--no-first-run", "--disable-quic", *QUIET]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()
