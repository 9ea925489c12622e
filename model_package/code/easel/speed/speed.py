"""Optional optimisations, each with a setting, and which of them are in use on this machine.

What the hardware or the libraries do not support is turned off. `Speed.report` says so, in the
log's `model_loaded` and in the model's description.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from easel.env_fields import one_of, read_variables, switch, variable
from easel.pipelines import schedulers
from easel.speed.compiler import Compiler, Unavailable
from easel.speed.eight_bits import EightBits, denoiser_layers
from easel.speed.host_timesteps import keep_steps_on_the_host
from generation import RULES

_OWNER = "the owner of the endpoint"
_MIB = 2**20  # bytes


def _sizes(value: str) -> tuple[tuple[int, int], ...]:
    if not re.fullmatch(r"\d{1,5}x\d{1,5}(,\d{1,5}x\d{1,5})*", value):
        raise ValueError("must be sizes such as 512x512, separated by commas")
    pairs = (size.split("x") for size in value.split(","))
    return tuple((_side("width", width), _side("height", height)) for width, height in pairs)


def _side(name: str, value: str) -> int:
    pixels = RULES[name].clean(int(value))
    assert isinstance(pixels, int)  # noqa: S101 - for the type checker
    return pixels


def _share(value: str) -> float:
    share = float(value)
    if not 0 < share <= 1:
        raise ValueError("must be above 0, and at most 1")
    return share


def _mebibytes(value: str) -> int:
    size = int(value)
    if not 0 <= size <= 65_536:
        raise ValueError("must be a number of mebibytes from 0 to 65536")
    return size * _MIB


def _batch(value: str) -> Batch:
    matched = re.fullmatch(r"(auto|exact)|(?:(exact):)?([1248])", value)
    if not matched:
        raise ValueError("must be auto, exact, 1, 2, 4, 8 or exact:4")
    mode, fixed, size = matched.groups()
    return Batch(exact="exact" in (mode, fixed), size=int(size) if size else None)


@dataclass(frozen=True)
class Batch:
    """How requests are batched.

    Attributes:
        exact: paint every image at the largest size, also one that is alone.
        size: the largest; None for one that is measured.
    """

    exact: bool = False
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """The settings of the optimisations.

    Attributes:
        compile: what to compile with torch.compile. `regional`: the denoiser's repeated blocks;
            `full`: the whole denoiser and the VAE's decoder; `auto`: `regional` if the model comes
            with a compile cache for this machine and this code, else `off`; `off`.
        compile_cache: a folder of compile caches, in addition to `compiled` in the model folder.
        cuda_graphs: whether a fully compiled model is replayed as CUDA graphs.
        channels_last: the memory layout of convolutions; `auto` is on for a compiled model on a
            GPU.
        guidance_cutoff: the share of the steps with guidance. Below 1, the last steps have none,
            which halves their time and changes the image.
        sampler: a scheduler to use instead of the model's own; another one changes the image.
        steps_on_host: whether the noise schedule stays in the CPU's memory, so that no step waits
            to read it back from the GPU.
        kept_prompts: the size of the cache of prompts' embeddings, in bytes.
        warm_up: sizes, in pixels, to generate before the first request, in addition to the default
            one (on a CPU without compiling: the smallest). A compiled model is compiled for these
            sizes and the default one only.
        read_ahead: whether the weights are read from disk while libraries are imported.
        batch: how many requests a server that can batch paints together.
        storage: `fp8` stores a UNet's weights in 8 bits, which halves their memory, makes each step
            slower and changes the image; `full` stores them in the type of the computation.
    """

    compile: str = field(
        default="auto",
        metadata=variable(
            "EASEL_COMPILE", one_of("auto", "off", "regional", "full"), _OWNER, example="regional"
        ),
    )
    compile_cache: Path | None = field(
        default=None,
        metadata=variable("EASEL_COMPILE_CACHE", Path, _OWNER, example="/opt/ml/model/compiled"),
    )
    cuda_graphs: bool = field(
        default=False, metadata=variable("EASEL_CUDA_GRAPHS", switch, _OWNER, example="on")
    )
    channels_last: str = field(
        default="auto",
        metadata=variable("EASEL_CHANNELS_LAST", one_of("auto", "on", "off"), _OWNER, example="on"),
    )
    guidance_cutoff: float = field(
        default=1.0, metadata=variable("EASEL_GUIDANCE_CUTOFF", _share, _OWNER, example="0.4")
    )
    sampler: str = field(
        default="own",
        metadata=variable(
            "EASEL_SAMPLER",
            one_of("own", *schedulers.SAMPLERS),
            _OWNER,
            example="dpm++-2m-karras",
        ),
    )
    steps_on_host: bool = field(
        default=True, metadata=variable("EASEL_STEPS_ON_HOST", switch, _OWNER, example="off")
    )
    kept_prompts: int = field(
        default=64 * _MIB,
        metadata=variable("EASEL_KEPT_PROMPTS", _mebibytes, _OWNER, example="64"),
    )
    warm_up: tuple[tuple[int, int], ...] = field(
        default=(),
        metadata=variable("EASEL_WARM_UP", _sizes, _OWNER, example="768x512,512x768"),
    )
    read_ahead: bool = field(
        default=True, metadata=variable("EASEL_READ_AHEAD", switch, _OWNER, example="off")
    )
    batch: Batch = field(
        default=Batch(), metadata=variable("EASEL_BATCH", _batch, _OWNER, example="auto")
    )
    storage: str = field(
        default="full",
        metadata=variable("EASEL_STORAGE", one_of("full", "fp8"), _OWNER, example="fp8"),
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> SpeedSettings:
        """Read the settings.

        Raises:
            SettingInvalid: for the first variable that cannot be read.
        """
        return cls(**read_variables(cls, environ))


class Speed:
    """The optimisations that are in use for one model.

    Args:
        pipelines: the base, and the refiner if there is one; they are changed in place.
        settings: the requested optimisations.
        compiler: compiles the pipelines' parts.
        quantised: how EASEL_QUANTISE has stored the weights already; `none` for no other way.
    """

    def __init__(
        self,
        pipelines: Sequence[Any] = (),
        settings: SpeedSettings | None = None,
        compiler: Compiler | None = None,
        *,
        quantised: str = "none",
    ) -> None:
        self.settings = settings or SpeedSettings()
        self.report: dict[str, str] = {}
        self._compiler = compiler or Compiler([])
        self._quantised = quantised
        self._storage = EightBits(denoiser_layers(pipelines, transformers=False))
        if pipelines:
            self._apply(pipelines)

    def _apply(self, pipelines: Sequence[Any]) -> None:
        settings = self.settings
        # First: `keep_steps_on_the_host` below makes a subclass of the chosen scheduler.
        self.report["sampler"] = schedulers.choose(pipelines[0], settings.sampler)
        self.report["compile"] = self._compile()
        self.report["channels_last"] = _lay_out(pipelines, self._wants_channels_last(pipelines[0]))
        self.report["storage"] = self._store()
        self.report["steps_on_host"] = (
            keep_steps_on_the_host(pipelines) if settings.steps_on_host else "off"
        )
        self.report["guidance_cutoff"] = f"{settings.guidance_cutoff:g}"

    @property
    def compiled(self) -> bool:
        """Whether any part of the model is compiled."""
        return self._compiler.active

    def _compile(self) -> str:
        try:
            return self._compiler.start(
                self.settings.compile, cuda_graphs=self.settings.cuda_graphs
            )
        except Unavailable as reason:
            return f"off: {reason}"

    def _store(self) -> str:
        if self._quantised != "none":
            return self._quantised
        if self.settings.storage == "full":
            return "full"
        if not self._storage.layers:
            return "off: the model has no UNet"
        try:
            self._storage.start()
        except (AttributeError, RuntimeError, TypeError) as error:
            return f"off: {type(error).__name__}: {str(error)[:300]}"
        return "fp8"

    def _wants_channels_last(self, pipeline: Any) -> bool:
        if self.settings.channels_last != "auto":
            return self.settings.channels_last == "on"
        device = getattr(pipeline, "device", torch.device("cpu"))
        return device.type == "cuda" and self._compiler.active

    @contextmanager
    def generating(self) -> Iterator[None]:
        """A context that compiles nothing: a size that was not warmed up runs uncompiled."""
        with self._compiler.without_compiling():
            yield

    def give_up(self, error: BaseException) -> bool:
        """Turn off one optimisation after a failure; return False if none is left."""
        # Compiling first: undoing it changes no weights.
        for name, part in (("compile", self._compiler), ("storage", self._storage)):
            if part.active:
                part.stop()
                self.report[name] = f"off: {type(error).__name__}: {str(error)[:300]}"
                return True
        return False


def _lay_out(pipelines: Sequence[Any], channels_last: bool) -> str:
    """Put convolutions' weights into the memory layout that tensor cores read fastest."""
    parts = [
        part
        for pipeline in pipelines
        for name in ("unet", "vae")
        if isinstance(part := getattr(pipeline, name, None), torch.nn.Module)
    ]
    if not channels_last or not parts:
        return "off"
    for parameter in (each for part in parts for each in part.parameters() if each.ndim == 4):
        # Not every backend can permute 8-bit floating-point numbers, but all can permute bytes.
        own = torch.uint8 if parameter.itemsize == 1 else parameter.dtype
        values = parameter.data.view(own).contiguous(memory_format=torch.channels_last)
        parameter.data = values.view(parameter.dtype)
    return "on"
