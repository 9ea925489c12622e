"""Make the pictures in the README: Easel as `./setup.sh run` starts it, in a real Chromium.

python -m tests.screenshots
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Page

from endpoint.emulator.process.processes import free_port
from tests.browsers.launch import chromium
from tests.model_package.training import zorble
from tests.packages import ROOT

FOLDER = ROOT / "docs" / "images"
# What hangs in the gallery; the last one stands on the easel.
GALLERY = (
    "a cactus",
    "a sailboat",
    "a pizza",
    "a fox in the snow",
    "a rocket on a blue background",
    "a tree on grass",
    "a penguin on grass",
    "a red apple on grass",
)
# One picture for each of these, side by side.
PROMPTS = ("a red apple", "a house in the snow", "a penguin on grass", "a dog on a blue background")


def main() -> int:
    """Take the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with easel() as url:
        take_page(url)
        take_lesson(url)
        for number, prompt in enumerate(PROMPTS, 1):
            address = f"{url}inference/{prompt.replace(' ', '%20')}?seed=7"
            with urlopen(address, timeout=60) as answer:
                (FOLDER / f"picture-{number}.png").write_bytes(answer.read())
    return 0


@contextmanager
def easel() -> Iterator[str]:
    """Run Easel while the context lasts, and give its address."""
    port = free_port()
    command = [sys.executable, "-m", "endpoint.emulator", "run", "--port", str(port)]
    ready = f"Easel is at http://127.0.0.1:{port}/api/"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        if not any(line.strip() == ready for line in process.stdout or ()):
            raise RuntimeError("Easel did not start")
        try:
            yield ready.removeprefix("Easel is at ")
        finally:
            process.terminate()
            process.communicate()


def take_page(url: str) -> None:
    """Paint a gallery, and take the page with it: light, dark, and on a phone."""
    with chromium() as browser:
        desk = browser.new_page(viewport={"width": 1160, "height": 1040}, reduced_motion="reduce")
        paint(desk, url, *GALLERY)
        desk.screenshot(path=FOLDER / "page.png")
        desk.emulate_media(color_scheme="dark")
        desk.screenshot(path=FOLDER / "page-dark.png")
        phone = browser.new_page(
            viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
        )
        paint(phone, url, GALLERY[-1])
        phone.evaluate("scrollTo(0, 0)")
        phone.screenshot(path=FOLDER / "page-phone.png")


def take_lesson(url: str) -> None:
    """Teach the model an invented object, and take the page with what it paints then."""
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        page = browser.new_page(viewport={"width": 1160, "height": 820}, reduced_motion="reduce")
        zorble.write(Path(folder))
        page.goto(f"{url}teach")
        page.set_input_files("#files", sorted(Path(folder).iterdir()))
        page.get_by_label("Trigger").fill("a zorble")
        page.get_by_label("Name", exact=True).fill("zorble")
        page.get_by_role("button", name="Start").click()
        page.get_by_role("link", name="Use it").wait_for(timeout=900_000)
        page.wait_for_timeout(1_000)
        page.screenshot(path=FOLDER / "teach.png")


def paint(page: Page, url: str, *prompts: str) -> None:
    """Open the page, and paint one picture after another."""
    page.goto(url)
    for prompt in prompts:
        page.get_by_role("textbox", name="Prompt", exact=True).fill(prompt)
        page.get_by_role("button", name="Paint", exact=True).click()
        page.get_by_role("button", name=f"{prompt}, painted").wait_for(timeout=60_000)
    page.locator("#picture").evaluate("image => image.decode()")
    page.wait_for_timeout(1_000)  # it fades in


if __name__ == "__main__":
    sys.exit(main())
