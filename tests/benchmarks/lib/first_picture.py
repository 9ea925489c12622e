"""How long a compiled model's first picture takes, with and without a cache that was made before.

Each is measured in a process of its own with a home of its own, as on two machines: the first
compiles and packs its cache as `model_package/compile_cache.py` does, the second unpacks it. The
time begins when the weights are loaded, and is the wall clock's on a CPU, too: compiling starts
processes of its own. `gpu.py` measures this row with its others.
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
from tests.benchmarks.lib.report import Figure, Row
from tests.benchmarks.lib.ways import Easel, build, dtype_on, kind_of

WITHOUT = "compiled without a cache"


class First(NamedTuple):
    """Seconds from loaded weights to the first picture, and from that to the next."""

    first: float
    next: float


def alone(measure: Callable[[str, Path, Path], First], *arguments: object) -> First:
    """Call in a new process, whose libraries have compiled nothing yet."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, *arguments).result()


def first_row(what: str, name: str, call: Callable[..., First] = alone) -> Row:
    """Return the row of a model; takes as long as compiling it does.

    Args:
        what: the row's name.
        name: the model's.
        call: calls a function with its arguments as on a machine of its own.

    Raises:
        RuntimeError: if the model cannot be compiled, or does not take the cache.
    """
    with TemporaryDirectory() as folder:
        homes = [Path(folder) / each for each in ("maker", "server")]
        for home in homes:
            home.mkdir()
        cold = call(compile_and_pack, name, homes[0], Path(folder))
        warm = call(compile_from_cache, name, homes[1], Path(folder))
    note = f"first picture from loaded weights, wall clock; the next takes {warm.next:.2f} s"
    return Row(what, "s", Figure(warm.first), WITHOUT, Figure(cold.first), note=note)


def compile_and_pack(name: str, home: Path, folder: Path) -> First:
    """Compile anew, and leave the archive in `folder`."""
    os.environ["HOME"] = str(home)
    compile_cache.point_torch_at(compile_cache.cache_folder())
    found = _first(name, {"EASEL_COMPILE": "regional"}, "regional")
    compile_cache.save_cache(folder)
    return found


def compile_from_cache(name: str, home: Path, folder: Path) -> First:
    """Compile with the archive in `folder`, as a model does by itself."""
    os.environ["HOME"] = str(home)
    return _first(name, {"EASEL_COMPILE_CACHE": str(folder)}, "regional, cached")


def _first(name: str, environ: dict[str, str], expected: str) -> First:
    torch.set_num_threads(1)
    kind, device = kind_of(name), choose_device()
    pipelines = build(name, dtype_on(device), device)
    with redirect_stdout(StringIO()):  # the painter's log
        started = time.perf_counter()
        easel = Easel(pipelines, kind, environ)
        if easel.report["compile"] != expected:
            raise RuntimeError(f"not {expected}, but {easel.report['compile']}")
        easel.paint(kind.steps)
        between = time.perf_counter()
        easel.paint(kind.steps)
    return First(between - started, time.perf_counter() - between)
