"""From settings and a model's folder to a painter, with what each step took in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from easel import log
from easel.defaults import Defaults
from easel.generator import Painter
from easel.loading import vae
from easel.loading.dtype import choose_device, choose_dtype
from easel.loading.pipeline import find_folder, load_pipeline, software
from easel.loading.refiner import find_refiner, load_refiner
from easel.lora.adapters import Loras
from easel.lora.file import find_files
from easel.settings import Settings
from easel.speed.compiler import Compiler
from easel.speed.speed import Speed, SpeedSettings
from easel.startup import gc_pause
from easel.startup.read_ahead import read_ahead
from easel.startup.stopwatch import Clock


def load_painter(
    model_dir: Path, environ: Mapping[str, str], *, clock: Clock | None = None
) -> Painter:
    """Read the settings, load the model and warm it up.

    Args:
        model_dir: the model's folder.
        environ: the variables that Settings and SpeedSettings read.
        clock: knows of the steps before; the log's `model_loaded` has its steps.

    Raises:
        ModelUnusable: if the settings or the model's files are at fault.
        GenerationFailed: if it cannot paint.
    """
    clock = clock or Clock()
    with gc_pause.paused():
        loaded = _load(model_dir, environ, clock)
        painter = loaded.painter()
    painter.warm_up()
    clock.mark("warm_up")
    # Warming up may have given up what makes painting faster, so what is in force is told now.
    log.event("model_loaded", **loaded.describe(), seconds=clock.seconds, steps=clock.steps)
    return painter


@dataclass
class _Loaded:
    """What a painter is made of.

    Attributes:
        pipelines: the base, and the refiner if there is one.
        device: where they compute, in `dtype`.
    """

    settings: Settings
    defaults: Defaults
    pipelines: Sequence[Any]
    device: torch.device
    dtype: torch.dtype
    loras: Loras
    speed: Speed

    def painter(self) -> Painter:
        base, *refiners = self.pipelines
        return Painter(
            base,
            self.defaults,
            refiner=refiners[0] if refiners else None,
            loras=self.loras,
            speed=self.speed,
            name=self.settings.model_name,
            metadata=self.settings.metadata,
            log_prompts=self.settings.log_prompts,
        )

    def describe(self) -> dict[str, object]:
        """Return what the log says of it."""
        base, *refiners = (type(each).__name__ for each in self.pipelines)
        return {
            "pipeline": base,
            "model": self.settings.model_name,
            "refiner": refiners[0] if refiners else None,
            "loras": self.loras.names,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "speed": self.speed.report,
            "software": software(),
        }


def _load(model_dir: Path, environ: Mapping[str, str], clock: Clock) -> _Loaded:
    settings = Settings.from_environ(environ)
    wanted = SpeedSettings.from_environ(environ)
    device = choose_device()
    dtype = choose_dtype(settings.dtype, device)
    folders = _find(model_dir, settings, environ)
    clock.mark("find")
    how = {"dtype": dtype, "device": device, "allow_pickle": settings.allow_pickle}
    pipelines = _load_pipelines(folders, {**how, "clock": clock})
    loras = _look_through_loras(model_dir, settings, pipelines)
    clock.mark("loras")
    if wanted.storage == "fp8":
        loras.keep_originals()
    vae.prepare(pipelines[0], device=device, tiling=settings.vae_tiling)
    caches = [wanted.compile_cache, model_dir / "compiled", folders[0] / "compiled"]
    compiler = Compiler(pipelines, [each for each in caches if each is not None])
    speed = Speed(pipelines, wanted, compiler)
    clock.mark("speed")
    defaults = settings.defaults.over(Defaults.from_folder(model_dir))
    defaults = defaults.over(Defaults.from_folder(folders[0]))
    return _Loaded(settings, defaults, pipelines, device, dtype, loras, speed)


def _find(model_dir: Path, settings: Settings, environ: Mapping[str, str]) -> list[Path]:
    """Return the base's folder and the refiner's, if there is one; both begin to be read."""
    folders = [find_folder(model_dir, settings)]
    refiner = find_refiner(model_dir, settings)
    if refiner is not None:
        folders.append(refiner)
    for each in folders:
        read_ahead(each, environ)
    return folders


def _load_pipelines(folders: Sequence[Path], how: dict[str, Any]) -> list[Any]:
    base = load_pipeline(folders[0], **how)
    return [base, *(load_refiner(each, base, **how) for each in folders[1:])]


def _look_through_loras(model_dir: Path, settings: Settings, pipelines: Sequence[Any]) -> Loras:
    folders = [model_dir / "loras", *([settings.loras] if settings.loras else [])]
    return Loras(find_files(folders), pipelines)
