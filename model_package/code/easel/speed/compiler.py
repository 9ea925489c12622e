"""torch.compile, so that no request ever waits for it.

Compiling takes place during the warm-up, for the sizes of the warm-up. Anything else, such as
another size or a prompt of more than 77 tokens, runs uncompiled. If compiling fails, the whole
model runs uncompiled.

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

# torch compiles a block again for each width and image size, and with and without guidance.
_MOST_VARIANTS = 128


class Unavailable(Exception):
    """Nothing is compiled; the text is the reason."""


class Compiler:
    """Compiles the denoisers (UNets or transformers) and VAE of some pipelines.

    Args:
        pipelines: the base, and the refiner if there is one.
        folders: where archives of compiled code may be.
        compile_module: compiles one module in place, as `torch.nn.Module.compile` does.
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
        """Whether any part is compiled, or will be at its first call."""
        return bool(self._compiled)

    def start(self, how: str, *, cuda_graphs: bool = False) -> str:
        """Mark the parts to compile at their first call; return a description for the report.

        Args:
            how: auto, off, regional or full, as in EASEL_COMPILE.
            cuda_graphs: replay a fully compiled model as CUDA graphs.

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
            raise Unavailable("the model has no part that is supported")
        options = self._options(full=how == "full", cuda_graphs=cuda_graphs)
        with without_warnings():
            for part in parts:
                self._compile_module(part, **options)
        if "mode" in options:
            _keep_outputs(parts)
        self._compiled = parts
        description = "full" if how == "full" else "regional"
        return (
            description
            + ("" if refusal else ", cached")
            + (", CUDA graphs" if "mode" in options else "")
        )

    def stop(self) -> None:
        """Undo `start`."""
        for part in self._compiled:
            part._compiled_call_impl = None
        self._compiled = []
        torch._dynamo.reset()

    @contextmanager
    def without_compiling(self) -> Iterator[None]:
        """A context that runs compiled code where there is some, and compiles nothing."""
        # torch 2.6, which the serving image has, is the first with stances.
        stance: Any = getattr(torch.compiler, "set_stance", None)
        with stance("eager_on_recompile") if self.active and stance else nullcontext():
            yield

    def _parts(self, *, full: bool) -> list[Any]:
        parts: list[Any] = []
        for pipeline in self._pipelines:
            denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
            if isinstance(denoiser, torch.nn.Module):
                parts += [denoiser] if full else _repeated(denoiser)
        decoder = getattr(getattr(self._pipelines[0], "vae", None), "decoder", None)
        if full and isinstance(decoder, torch.nn.Module):
            parts.append(decoder)
        return parts

    def _options(self, *, full: bool, cuda_graphs: bool) -> dict[str, Any]:
        config: Any = torch._dynamo.config
        for name in ("recompile_limit", "cache_size_limit"):  # the second name until torch 2.6
            if hasattr(config, name):
                setattr(config, name, max(getattr(config, name), _MOST_VARIANTS))
        # Separate code for each size: code for all sizes is slower.
        options: dict[str, Any] = {"dynamic": False}
        if cuda_graphs and full and torch.cuda.is_available():
            options["mode"] = "reduce-overhead"
        return options


def _repeated(denoiser: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the blocks that make up most of a model; diffusers lists their classes."""
    names = getattr(denoiser, "_repeated_blocks", None) or []
    return [module for module in denoiser.modules() if type(module).__name__ in names]


def _keep_outputs(parts: Sequence[Any]) -> None:
    """Copy CUDA graphs' outputs: the next replay overwrites them, and schedulers keep some."""
    for part in parts:
        replay = part._compiled_call_impl

        def call(*args: Any, replay: Any = replay, **options: Any) -> Any:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            return tree_map_only(torch.Tensor, torch.Tensor.clone, replay(*args, **options))

        part._compiled_call_impl = call
