"""What makes pictures come faster, each a setting, and what of it is in force on this machine.

Nothing here is needed to paint. What the hardware or the libraries do not have is left out by
itself; `Speed.report` says so, and with it the log's `model_loaded` and the answer to a question.
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
from easel.speed.fp8 import Fp8Storage
from easel.speed.host_timesteps import keep_steps_on_the_host
from generation import RULES

_OWNER = "whoever owns the endpoint"
_MIB = 2**20


def _sizes(given: str) -> tuple[tuple[int, int], ...]:
    if not re.fullmatch(r"\d{1,5}x\d{1,5}(,\d{1,5}x\d{1,5})*", given):
        raise ValueError("must be sizes such as 512x512, with commas between them")
    pairs = (each.split("x") for each in given.split(","))
    return tuple((_side("width", width), _side("height", height)) for width, height in pairs)


def _side(name: str, given: str) -> int:
    pixels = RULES[name].clean(int(given))
    assert isinstance(pixels, int)  # noqa: S101 - for the type checker: the rule is for whole numbers
    return pixels


def _share(given: str) -> float:
    share = float(given)
    if not 0 < share <= 1:
        raise ValueError("must be above 0, and at most 1")
    return share


def _mebibytes(given: str) -> int:
    size = int(given)
    if not 0 <= size <= 65_536:
        raise ValueError("must be a number of mebibytes from 0 to 65536")
    return size * _MIB


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """The settings of speed.

    Attributes:
        compile: what torch.compile makes faster. `regional`: the denoiser's repeated blocks;
            `full`: the whole denoiser and the VAE's decoder; `auto`: as `regional`, if a cache of
            what was compiled before came with the model and fits this machine; `off`.
        compile_cache: a folder of such caches, beside `compiled` in the model folder.
        cuda_graphs: whether a fully compiled model is replayed as CUDA graphs.
        channels_last: the memory layout of convolutions; `auto` is on for a compiled model on a
            GPU.
        guidance_cutoff: the share of the steps with guidance. Below 1 the last ones go without,
            take half the time, and change the picture.
        sampler: a scheduler in place of the model's own; another one paints another picture.
        steps_on_host: whether the noise schedule stays in the CPU's memory, so that no step waits
            for the GPU to say where it is.
        kept_prompts: bytes of prompts' embeddings that are kept.
        warm_up: sizes, in pixels, that are painted before the first visitor comes, beside the
            default one (on a CPU without compiling: the smallest). A compiled model is compiled for
            these and the default one, and not for others.
        read_ahead: whether the weights are read from disk while libraries are imported.
        storage: `fp8` keeps a UNet's weights in 8 bits, which halves their memory, takes time in
            each step, and changes the picture; `full` keeps them as they are computed with.
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
    """What of the settings is in force for one model.

    Args:
        pipelines: the base, and the refiner if there is one; they are changed in place.
        settings: what is wanted.
        compiler: for the pipelines' parts.
    """

    def __init__(
        self,
        pipelines: Sequence[Any] = (),
        settings: SpeedSettings | None = None,
        compiler: Compiler | None = None,
    ) -> None:
        self.settings = settings or SpeedSettings()
        self.report: dict[str, str] = {}
        self._compiler = compiler or Compiler([])
        self._storage = Fp8Storage(pipelines)
        if pipelines:
            self._apply(pipelines)

    def _apply(self, pipelines: Sequence[Any]) -> None:
        settings = self.settings
        self.report["sampler"] = schedulers.choose(pipelines[0], settings.sampler)
        self.report["compile"] = self._compile()
        self.report["channels_last"] = _lay_out(pipelines, self._wants_channels_last(pipelines[0]))
        # After the layout: no backend is asked to move 8-bit numbers about.
        self.report["storage"] = self._storage.start() if settings.storage == "fp8" else "full"
        self.report["steps_on_host"] = (
            keep_steps_on_the_host(pipelines) if settings.steps_on_host else "off"
        )
        self.report["guidance_cutoff"] = f"{settings.guidance_cutoff:g}"

    @property
    def compiled(self) -> bool:
        """Whether torch.compile has a part in painting."""
        return self._compiler.active

    def _compile(self) -> str:
        try:
            return self._compiler.start(
                self.settings.compile, cuda_graphs=self.settings.cuda_graphs
            )
        except Unavailable as reason:
            return f"off: {reason}"

    def _wants_channels_last(self, pipeline: Any) -> bool:
        if self.settings.channels_last != "auto":
            return self.settings.channels_last == "on"
        device = getattr(pipeline, "device", torch.device("cpu"))
        return device.type == "cuda" and self._compiler.active

    @contextmanager
    def generating(self) -> Iterator[None]:
        """Paint without compiling anything: a size that was not warmed up is painted plainly."""
        with self._compiler.as_it_is():
            yield

    def give_up(self, error: BaseException) -> bool:
        """Undo one thing that may have made painting fail; say whether there was any left."""
        for name, part in (("compile", self._compiler), ("storage", self._storage)):
            if part.active:
                part.stop()
                self.report[name] = f"off: {type(error).__name__}: {str(error)[:300]}"
                return True
        return False


def _lay_out(pipelines: Sequence[Any], channels_last: bool) -> str:
    """Bring convolutions' weights into the layout in which tensor cores read them."""
    parts = [
        part
        for pipeline in pipelines
        for name in ("unet", "vae")
        if isinstance(part := getattr(pipeline, name, None), torch.nn.Module)
    ]
    if not channels_last or not parts:
        return "off"
    for part in parts:
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return "on"
