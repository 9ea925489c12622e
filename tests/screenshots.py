"""Make the pictures in the README: Easel as `./setup.sh run` starts it, in a real Chromium.

python -m tests.screenshots
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from endpoint.emulator.processes import free_port
from tests.browser import chromium
from tests.packages import ROOT

FOLDER = ROOT / "docs" / "images"
PROMPT = "a red apple on grass"
# One picture for each of these, side by side.
PROMPTS = ("a red apple", "a house in the snow", "a penguin on grass", "a dog on a blue background")


def main() -> int:
    """Take the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with easel() as url:
        take_page(url, FOLDER / "page.png")
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
        yield ready.removeprefix("Easel is at ")
        process.terminate()
        process.communicate()


def take_page(url: str, file: Path) -> None:
    """Type a prompt into the page, and take it with its picture."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 760, "height": 960}, device_scale_factor=1)
        page.goto(url)
        page.get_by_label("Prompt").fill(PROMPT)
        page.get_by_role("button", name="Paint").click()
        page.locator("#picture").wait_for(state="visible")
        page.locator("#picture").evaluate("image => image.decode()")
        page.screenshot(path=str(file))


if __name__ == "__main__":
    sys.exit(main())
