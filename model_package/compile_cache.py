"""Compile a model ahead of time, so that no endpoint has to: what comes of it is packed beside it.

    python model_package/compile_cache.py FOLDER [--full] [--sizes 512x512,768x512]

FOLDER holds a diffusers model, or `base/` and `refiner/`. To be run on a machine of the kind that
will serve it (the same GPU), in the same container image: the archive's name,
`FOLDER/compiled/<machine>.tar.gz`, says for which. One folder may hold several machines' archives.

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
        model_dir: as an endpoint gets it.
        how: regional or full, as in EASEL_COMPILE.
        sizes: to be compiled beside the model's default size, as in EASEL_WARM_UP.

    Raises:
        EaselError: if the model cannot be loaded.
        RuntimeError: if it paints, but could not be compiled.
    """
    # Nothing that was compiled before: only what this model needs is packed.
    shutil.rmtree(cache_folder(), ignore_errors=True)
    point_torch_at(cache_folder())
    wanted = {"EASEL_COMPILE": how, "EASEL_WARM_UP": sizes}
    generator = load_generator(model_dir, {**os.environ, **wanted})
    told = generator.describe()["speed"]
    if not isinstance(told, dict) or str(told["compile"]).startswith("off"):
        raise RuntimeError(f"the model could not be compiled: {told}")
    return save_cache(model_dir / "compiled")


def main() -> None:
    """Read the command line and make the cache."""
    parser = argparse.ArgumentParser(description="Compile a model ahead of time.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--full", action="store_true", help="the whole denoiser and the VAE")
    parser.add_argument("--sizes", default="", help="beside the default one: 768x512,512x768")
    asked = parser.parse_args()
    how = "full" if asked.full else "regional"
    archive = make_cache(asked.folder, how=how, sizes=asked.sizes)
    print(f"{archive}: {archive.stat().st_size / 1e6:.1f} MB")  # noqa: T201 - a script's answer


if __name__ == "__main__":
    main()
