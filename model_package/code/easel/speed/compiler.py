"""torch.compile, so that no visitor ever waits for it.

What is compiled is compiled while the model warms up, for the sizes that are warmed up. Anything
else, such as another size or a prompt of more than 77 tokens, is painted as without compiling. If
compiling fails, the model paints as without it.

Compiling takes minutes for a large model, so what came of it can be shipped with the model: one
archive per kind of machine, made by `model_package/compile_cache.py` on such a machine. An archive
holds code that is run, as the model's code folder does: take none from strangers.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from easel.startup.quiet import without_warnings

SUFFIX = ".tar.gz"
# A block is compiled anew for each of its widths, picture sizes, and with and without guidance.
_MOST_VARIANTS = 128


class Unavailable(Exception):
    """Nothing is compiled; the text says why."""


class Compiler:
    """Compiles the denoisers (UNets or transformers) and VAE of some pipelines.

    Args:
        pipelines: the base, and the refiner if there is one.
        folders: where caches may lie.
        compile_module: what compiles one module in place; `torch.nn.Module.compile`.
    """

    def __init__(
        self,
        pipelines: Sequence[Any],
        folders: Sequence[Path] = (),
        compile_module: Callable[..., None] = torch.nn.Module.compile,
    ) -> None:
        self._pipelines = pipelines
        self._folders = folders
        self._compile_module = compile_module
        self._compiled: list[Any] = []

    @property
    def active(self) -> bool:
        """Whether anything is compiled, or will be when it is first used."""
        return bool(self._compiled)

    def start(self, how: str, *, cuda_graphs: bool = False) -> str:
        """Mark the parts to compile; return what was done. They are compiled when first used.

        Args:
            how: auto, off, regional or full, as in EASEL_COMPILE.
            cuda_graphs: replay a full one as CUDA graphs.

        Raises:
            Unavailable: if nothing is compiled, with the reason.
        """
        if how == "off":
            raise Unavailable("as set")
        cached = use_cache(self._folders)
        if how == "auto" and not cached:
            raise Unavailable(f"no cache came with the model for {machine_key()}")
        parts = self._parts(full=how == "full")
        if not parts:
            raise Unavailable("the model has no part that is known to compile")
        options = self._options(full=how == "full", cuda_graphs=cuda_graphs)
        with without_warnings():
            for part in parts:
                self._compile_module(part, **options)
        if "mode" in options:
            _keep_outputs(parts)
        self._compiled = parts
        told = "full" if how == "full" else "regional"
        return (
            told + (", cached" if cached else "") + (", CUDA graphs" if "mode" in options else "")
        )

    def stop(self) -> None:
        """Undo `start`."""
        for part in self._compiled:
            part._compiled_call_impl = None
        self._compiled = []
        torch._dynamo.reset()

    @contextmanager
    def as_it_is(self) -> Iterator[None]:
        """Run what is compiled, and everything else without compiling it."""
        # torch 2.6, the serving image's, is the first to have it.
        stance: Any = getattr(torch.compiler, "set_stance", None)
        with stance("eager_on_recompile") if self.active and stance else nullcontext():
            yield

    def _parts(self, *, full: bool) -> list[Any]:
        found: list[Any] = []
        for pipeline in self._pipelines:
            denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
            if isinstance(denoiser, torch.nn.Module):
                found += [denoiser] if full else _repeated(denoiser)
        decoder = getattr(getattr(self._pipelines[0], "vae", None), "decoder", None)
        if full and isinstance(decoder, torch.nn.Module):
            found.append(decoder)
        return found

    def _options(self, *, full: bool, cuda_graphs: bool) -> dict[str, Any]:
        config: Any = torch._dynamo.config
        for name in ("recompile_limit", "cache_size_limit"):  # the latter until torch 2.6
            if hasattr(config, name):
                setattr(config, name, max(getattr(config, name), _MOST_VARIANTS))
        # Each size is compiled for itself: code for all sizes at once is slower.
        options: dict[str, Any] = {"dynamic": False}
        if cuda_graphs and full and torch.cuda.is_available():
            options["mode"] = "reduce-overhead"
        return options


def _repeated(denoiser: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the blocks that a model is mostly made of; diffusers names their classes."""
    names = getattr(denoiser, "_repeated_blocks", None) or []
    return [each for each in denoiser.modules() if type(each).__name__ in names]


def _keep_outputs(parts: Sequence[Any]) -> None:
    """Copy what CUDA graphs return: the next replay overwrites it, and schedulers keep it."""
    for part in parts:
        replay = part._compiled_call_impl

        def call(*args: Any, replay: Any = replay, **options: Any) -> Any:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            return tree_map_only(torch.Tensor, torch.Tensor.clone, replay(*args, **options))

        part._compiled_call_impl = call


def machine_key() -> str:
    """Return the name of a cache that fits this machine: its libraries, and its GPU or CPU."""
    parts = [f"torch{torch.__version__}", f"python{platform.python_version()}"]
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        parts += [f"cuda{torch.version.cuda}", torch.cuda.get_device_name(), f"sm{major}{minor}"]
    else:
        parts.append(f"{platform.machine()}-{_cpu()}")
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts))


def _cpu() -> str:
    """Return what the instructions that a CPU has come to; compiled code may use all of them."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    flags = sorted({line for line in text.splitlines() if line.startswith(("flags", "model name"))})
    return hashlib.sha256("\n".join(flags).encode()).hexdigest()[:8]


def cache_folder() -> Path:
    """Return where torch keeps what it compiled for this kind of machine.

    The same path where a cache is made and where it is used: compiled code has paths in it. It is
    below the user's own home, since what lies there is run.
    """
    return Path.home() / ".cache" / "easel" / "compiled" / machine_key()


def use_cache(folders: Sequence[Path]) -> bool:
    """Unpack the cache that fits this machine, if one of the folders has it; say whether."""
    archives = [folder / f"{machine_key()}{SUFFIX}" for folder in folders]
    archive = next((each for each in archives if each.is_file()), None)
    if archive is None:
        return False
    try:
        point_torch_at(cache_folder())
        with tarfile.open(archive) as opened:
            opened.extractall(cache_folder(), filter="data")
    except (OSError, tarfile.TarError):
        return False
    return True


def point_torch_at(folder: Path) -> None:
    """Let torch and Triton keep compiled code in a folder that only this user may write to."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")


def save_cache(folder: Path) -> Path:
    """Pack what torch compiled into an archive in `folder`, named for this machine; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{machine_key()}{SUFFIX}"
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        packed = Path(temporary) / archive.name
        with tarfile.open(packed, "w:gz", compresslevel=6) as opened:
            opened.add(cache_folder(), arcname=".")
        shutil.move(packed, archive)  # whole or not at all
    return archive
