"""Compile a model ahead of time and pack the compiled code into the model's folder.

    python model_package/compile_cache.py FOLDER [--full] [--sizes 512x512,768x512]

FOLDER contains a diffusers model, or `base/` and `refiner/`. Run this on the kind of machine that
will serve the model (the same GPU), in the same container image. The name of the archive,
`FOLDER/compiled/<machine>.tar.gz`, names that machine; a folder can have archives for several.

Compiled code depends on the paths and the source of some of Easel's modules (`_TRACED` in
`easel/speed/compile_cache.py`): an endpoint whose code differs there refuses the archive, says so
in its log and generates without compiled code. So run this again after updating Easel.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "code"))
from easel.load import load_generator
from easel.speed.compile_cache import cache_folder, point_torch_at, save_cache


def make_cache(model_dir: Path, *, how: str = "regional", sizes: str = "") -> Path:
    """Compile the model in `model_dir` and return the archive.

    Args:
        model_dir: the model's folder, as on an endpoint.
        how: regional or full, as in EASEL_COMPILE.
        sizes: sizes to compile in addition to the model's default, as in EASEL_WARM_UP.

    Raises:
        EaselError: if the model cannot be loaded.
        RuntimeError: if the model works but could not be compiled.
    """
    # Without earlier compiled code, so that only this model's is packed.
    shutil.rmtree(cache_folder(), ignore_errors=True)
    point_torch_at(cache_folder())
    settings = {"EASEL_COMPILE": how, "EASEL_WARM_UP": sizes}
    generator = load_generator(model_dir, {**os.environ, **settings})
    report = generator.describe()["speed"]
    if not isinstance(report, dict) or str(report["compile"]).startswith("off"):
        raise RuntimeError(f"the model could not be compiled: {report}")
    return save_cache(model_dir / "compiled")


def main() -> None:
    """Read the command line and make the cache."""
    parser = argparse.ArgumentParser(description="Compile a model ahead of time.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--full", action="store_true", help="the whole denoiser and the VAE")
    parser.add_argument("--sizes", default="", help="in addition to the default: 768x512,512x768")
    options = parser.parse_args()
    how = "full" if options.full else "regional"
    archive = make_cache(options.folder, how=how, sizes=options.sizes)
    print(f"{archive}: {archive.stat().st_size / 1e6:.1f} MB")  # noqa: T201 - the script's output


if __name__ == "__main__":
    main()
