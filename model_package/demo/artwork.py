"""Download the openly licensed emoji and render each thing once, as RGBA in the image size.

    python -m model_package.demo.artwork

The artwork is Google's Noto Emoji (Apache-2.0) as packaged by Iconify. `npm pack` fetches the
package without installing anything.
"""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from model_package.demo.data.things import Artwork, all_things
from model_package.demo.work_dir import PICTURE_SIZE, WORK_DIR

PACKAGE = "@iconify-json/noto@1.2.9"


def fetch(folder: Path) -> Path:
    """Download the artwork package into `folder` if it is missing; return its archive."""
    folder.mkdir(parents=True, exist_ok=True)
    present = sorted(folder.glob("iconify-json-noto-*.tgz"))
    if present:
        return present[-1]
    packed = subprocess.run(  # noqa: S603 - a fixed command
        ["npm", "pack", PACKAGE, "--pack-destination", str(folder)],  # noqa: S607
        check=True,
        capture_output=True,
        text=True,
    )
    return folder / packed.stdout.strip().splitlines()[-1]


def read_icons(archive: Path) -> dict[str, str]:
    """Return the SVG body of every icon in the package, by name."""
    with tarfile.open(archive) as package:
        member = package.extractfile("package/icons.json")
        if member is None:
            raise FileNotFoundError(f"{archive} has no icons.json")
        icons = json.load(member)["icons"]
    return {name: icon["body"] for name, icon in icons.items()}


def draw_icon(body: str) -> Image.Image:
    """Render one icon's SVG body; Noto's view box is 128 units on each side."""
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128">{body}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=svg, width=PICTURE_SIZE, height=PICTURE_SIZE)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def load_artwork() -> Artwork:
    """Return the artwork of all things, rendered on the first call and then read from a file."""
    cached = WORK_DIR / "artwork.npz"
    if not cached.exists():
        icons = read_icons(fetch(WORK_DIR / "packages"))
        drawn = np.stack([np.asarray(draw_icon(icons[thing.icon])) for thing in all_things()])
        np.savez_compressed(cached, rgba=drawn)
    return [Image.fromarray(rgba) for rgba in np.load(cached)["rgba"]]


if __name__ == "__main__":
    load_artwork()
