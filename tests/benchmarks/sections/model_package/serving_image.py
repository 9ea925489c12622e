"""The size of the serving image, and the time from a changed source file to a new image.

python -m tests.benchmarks.sections.model_package.serving_image [--repeat 3]
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from functools import partial
from pathlib import Path

from endpoint.emulator.container.local_image import CONTEXT
from endpoint.provision.serving import image_source
from tests import containers
from tests.benchmarks.lib.measuring import Samples, milliseconds
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section

REPEAT = 3
# The wheels of requirements-cuda.lock, as PyPI lists their sizes.
CUDA_WHEELS = 2.802e9
LARGEST = 3_500  # the aim for the CUDA variant, in MB
TEXT = """\
The variant for CPUs, built by Buildah, and pushed to a registry for its compressed size. The
variant for CUDA was not built: its size is the other's, with the wheels of its lock file in the
place of the other's wheels. A changed source file is one of `model_package/code/`; the packages are
in Buildah's cache, as they are after the first build. No time includes a push.
"""


def section(quick: bool = False, repeat: int = REPEAT) -> Section:
    """Measure all of it; needs what tests/containers.py requires."""
    image = containers.build()
    layers = pushed_layers(image)
    compressed, wheels = sum(layers), wheels_size()
    (found,) = json.loads(containers.run("podman", "image", "inspect", image).stdout)
    seconds = rebuild_seconds(2 if quick else repeat)
    rows = (
        Row("CPU variant, compressed", "MB", Figure(compressed / 1e6)),
        Row("CPU variant, unpacked", "MB", Figure(found["Size"] / 1e6)),
        Row("CPU variant, largest layer", "MB", Figure(max(layers) / 1e6), note="compressed"),
        Row(
            "CUDA variant, compressed",
            "MB",
            Figure((compressed - wheels + CUDA_WHEELS) / 1e6),
            aim=Aim("value", at_most=LARGEST),
            note="calculated, not built",
        ),
        Row("from a changed source file to a new digest", "s", Figure.of(seconds)),
    )
    return Section("The serving image", TEXT, rows, packages=("torch", "diffusers"))


def pushed_layers(image: str) -> list[int]:
    """Return the sizes of an image's compressed layers."""
    with containers.registry() as address:
        containers.push(image, f"{address}/easel:1", "v2s2")
        return [layer["size"] for layer in containers.manifest(address, "easel", "1")[1]["layers"]]


def wheels_size() -> int:
    """Return the size of the CPU variant's wheels."""
    return sum(path.stat().st_size for path in (containers.FOLDER / "wheels").glob("*.whl"))


def rebuild_seconds(repeat: int) -> Samples:
    """Change a file and build, several times.

    Raises:
        AssertionError: if a change did not change the digest.
    """
    digests, times = set(), []
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        for name in image_source.PARTS:
            copy = shutil.copytree if (CONTEXT / name).is_dir() else shutil.copy2
            copy(CONTEXT / name, context / name)
        for count in range(repeat):
            changed = context / "code" / "easel" / "log.py"
            changed.write_text(f"{changed.read_text('utf-8')}# {count}\n", "utf-8")
            tag = f"localhost/easel:changed-{count}"
            times.append(milliseconds(partial(containers.build, context, tag)) / 1e3)
            inspect = ["podman", "image", "inspect", "--format", "{{.Digest}}", tag]
            digests.add(containers.run(*inspect).stdout)
            containers.run("podman", "rmi", tag)
    if len(digests) != repeat:
        raise AssertionError("a changed source file left the digest as it was")
    return Samples(tuple(times))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the serving image.")
    parser.add_argument("--repeat", type=int, default=REPEAT, help="builds after a change")
    repeat = parser.parse_args().repeat
    print_section(lambda: section(repeat=repeat))


if __name__ == "__main__":
    main()
