"""torch.compile, so that no visitor ever waits for it.

What is compiled is compiled while the model warms up, for the sizes that are warmed up. Anything
else, such as another size or a prompt of more than 77 tokens, is painted as without compiling. If
compiling fails, the model paints as without it.

Compiling takes minutes for a large model, so the compiled code can be shipped with the model: see
`easel.speed.compile_cache`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from easel.speed.compile_cache import use_cache
from easel.startup.quiet import without_warnings

# A block is compiled anew for each of its widths, picture sizes, and with and without guidance.
_MOST_VARIANTS = 128


class Unavailable(Exception):
    """Nothing is compiled; the text says why."""


class Compiler:
    """Compiles the denoisers (UNets or transformers) and VAE of some pipelines.

    Args:
        pipelines: the base, and the refiner if there is one.
        folders: where archives of compiled code may be.
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
        refusal = use_cache(self._folders)
        if how == "auto" and refusal is not None:
            raise Unavailable(refusal)
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
            told + ("" if refusal else ", cached") + (", CUDA graphs" if "mode" in options else "")
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
