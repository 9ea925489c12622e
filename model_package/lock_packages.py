"""Write the lock files of the serving image: every package that it contains, with its version.

    python model_package/lock_packages.py [--upgrade]

Run this after a change of `requirements.txt` here or in `server/`. It requires uv (`pip install
uv`), and may run on any machine: the files are for Linux on x86-64 with the image's Python. Without
`--upgrade`, versions stay as they are where the requirements allow it.

`requirements-cuda.lock` has hashes. `requirements-cpu.lock` has none, because PyPI does not have
PyTorch's builds for CPUs. uv takes those from PyTorch's own index, or from where UV_FIND_LINKS or
UV_INDEX says. Neither file contains the address of an index.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
REQUIREMENTS = (FOLDER / "requirements.txt", FOLDER / "server" / "requirements.txt")
VARIANTS = ("cuda", "cpu")
# Debian 12's.
PYTHON = "3.11"
_OTHER_INDEX = {"UV_FIND_LINKS", "UV_INDEX"}
_HEADER = "# Made by `python model_package/lock_packages.py`.\n"


def lock_file(variant: str) -> Path:
    """Return the lock file of a variant of the image."""
    return FOLDER / "server" / f"requirements-{variant}.lock"


def torch_version() -> str:
    """Return the version of torch that the requirements pin."""
    lines = REQUIREMENTS[0].read_text("utf-8").split()
    return next(line.removeprefix("torch==") for line in lines if line.startswith("torch=="))


def lock(uv: str, variant: str, *, upgrade: bool) -> None:
    """Resolve the packages of a variant and write its lock file.

    Raises:
        CalledProcessError: if uv finds no versions that fit, or cannot reach the index.
    """
    output = lock_file(variant)
    command = [uv, "pip", "compile", "--quiet", "--python-version", PYTHON]
    command += ["--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--output-file", str(output)]
    command += ["--upgrade"] if upgrade else []
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as override:
        if variant == "cuda":
            command += ["--generate-hashes"]
        else:
            override.write(f"torch=={torch_version()}+cpu\n")
            override.flush()
            command += ["--override", override.name, "--constraint", str(lock_file("cuda"))]
            command += [] if _OTHER_INDEX & set(os.environ) else ["--torch-backend", "cpu"]
        subprocess.run([*command, *map(str, REQUIREMENTS)], check=True)  # noqa: S603 - uv, by a list
    output.write_text(_HEADER + output.read_text("utf-8"), "utf-8")


def main() -> int:
    """Write both files, and return the process's exit code."""
    parser = argparse.ArgumentParser(description="Write the lock files of the serving image.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    options = parser.parse_args()
    uv = shutil.which("uv")
    if not uv:
        return _fail("uv is not installed: run `pip install uv`, and start this again")
    for variant in VARIANTS:
        try:
            lock(uv, variant, upgrade=options.upgrade)
        except subprocess.CalledProcessError:
            return _fail(f"{lock_file(variant).name} was not written, for uv's reason above")
    return 0


def _fail(message: str) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - the script's output
    return 1


if __name__ == "__main__":
    sys.exit(main())
