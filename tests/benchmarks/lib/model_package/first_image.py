"""Time to a compiled model's first image, with and without a compile cache.

Each is measured in its own process with its own home folder, as on two machines: the first compiles
and packs its cache as `model_package/compile_cache.py` does, the second unpacks it. The time starts
when the weights are loaded and is always wall-clock time, because compiling starts processes.
`gpu.py` measures this row with its others.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from easel.loading.dtype import choose_device
from easel.speed import compile_cache
from tests.benchmarks.lib.model_package.variants import Easel, build, dtype_on, spec_of
from tests.benchmarks.lib.report import Figure, Row

WITHOUT = "compiled without a cache"


class FirstImage(NamedTuple):
    """Seconds from loaded weights to the first image, and from that to the next."""

    first: float
    next: float


def in_new_process(
    measure: Callable[[str, Path, Path], FirstImage], *arguments: object
) -> FirstImage:
    """Call a function in a new process, whose libraries have not compiled anything."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, *arguments).result()


def first_row(what: str, name: str, call: Callable[..., FirstImage] = in_new_process) -> Row:
    """Return the row of a model; takes as long as compiling it.

    Args:
        what: the row's name.
        name: the model's.
        call: calls a function with its arguments as on a separate machine.

    Raises:
        RuntimeError: if the model cannot be compiled, or does not use the cache.
    """
    with TemporaryDirectory() as folder:
        homes = [Path(folder) / each for each in ("maker", "server")]
        for home in homes:
            home.mkdir()
        cold = call(compile_and_pack, name, homes[0], Path(folder))
        warm = call(compile_from_cache, name, homes[1], Path(folder))
    note = f"first image from loaded weights, wall clock; the next takes {warm.next:.2f} s"
    return Row(what, "s", Figure(warm.first), WITHOUT, Figure(cold.first), note=note)


def compile_and_pack(name: str, home: Path, folder: Path) -> FirstImage:
    """Compile without a cache, and write the archive to `folder`."""
    os.environ["HOME"] = str(home)
    compile_cache.point_torch_at(compile_cache.cache_folder())
    image = _first(name, {"EASEL_COMPILE": "regional"}, "regional")
    compile_cache.save_cache(folder)
    return image


def compile_from_cache(name: str, home: Path, folder: Path) -> FirstImage:
    """Compile with the archive in `folder`, as the endpoint does."""
    os.environ["HOME"] = str(home)
    return _first(name, {"EASEL_COMPILE_CACHE": str(folder)}, "regional, cached")


def _first(name: str, environ: dict[str, str], expected: str) -> FirstImage:
    torch.set_num_threads(1)
    spec, device = spec_of(name), choose_device()
    pipelines = build(name, dtype_on(device), device)
    with redirect_stdout(StringIO()):  # the model's log
        started = time.perf_counter()
        easel = Easel(pipelines, spec, environ)
        if easel.report["compile"] != expected:
            raise RuntimeError(f"not {expected}, but {easel.report['compile']}")
        easel.generate(spec.steps)
        between = time.perf_counter()
        easel.generate(spec.steps)
    return FirstImage(between - started, time.perf_counter() - between)
