"""A real WebKit: Debian's WebKitGTK, by WebDriver, in a private window as WebDriver has it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from selenium import webdriver
from selenium.webdriver.webkitgtk.service import Service

from tests.browsers.launch import find, missing


@contextmanager
def webkit() -> Iterator[webdriver.WebKitGTK]:
    """Start a WebKit on a display of its own."""
    server = find("WebKitWebDriver") or missing("WebKit (Debian's package webkit2gtk-driver)")
    with display() as name:
        service = Service(server, env={**os.environ, "DISPLAY": name})
        driver = webdriver.WebKitGTK(service=service)
        try:
            yield driver
        finally:
            driver.quit()


@contextmanager
def display() -> Iterator[str]:
    """Start an X server without a screen, which chooses its own number."""
    program = find("Xvfb") or missing("Xvfb (Debian's package xvfb)")
    command = [program, "-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            yield f":{server.stdout.readline().strip()}"
        finally:
            server.terminate()
