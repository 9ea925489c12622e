"""The model that the serving toolkit keeps between requests, from settings to a painter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import easel_collector
import easel_log
import easel_pipeline
import easel_precision
import easel_refiner
import easel_vae
from easel_clock import Clock
from easel_compile import Compiler
from easel_defaults import Defaults
from easel_errors import EaselError, guard
from easel_lora_file import find_files
from easel_loras import Loras
from easel_painter import Painter
from easel_read_ahead import read_ahead
from easel_settings import Settings
from easel_speed import Speed, SpeedSettings


class Model:
    """A painter, loaded on first use.

    Loading can fail for a reason that passes, such as a hub that does not answer, so a failure is
    not kept: whoever asks next tries again, as the toolkit itself does.
    """

    def __init__(self, load: Callable[[], Painter]) -> None:
        self._load = load
        self._painter: Painter | None = None
        self._turn = threading.Lock()

    def painter(self) -> Painter:
        """Return the painter.

        Raises:
            EaselError: if the model cannot be loaded.
        """
        with self._turn:
            if self._painter is None:
                self._painter = self._load()
            return self._painter

    def try_to_load(self) -> EaselError | None:
        """Load now; a failure is logged and returned instead of raised."""
        result = guard(self.painter)
        return result if isinstance(result, EaselError) else None


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
    with easel_collector.paused():
        painter, told = _load(model_dir, environ, clock)
    painter.warm_up()
    clock.mark("warm_up")
    # Painter.warm_up may have given up compiling, so the report is read now.
    easel_log.event("model_loaded", **told(), seconds=clock.seconds, steps=clock.steps)
    return painter


def _load(
    model_dir: Path, environ: Mapping[str, str], clock: Clock
) -> tuple[Painter, Callable[[], dict[str, object]]]:
    """Return a painter that is not warmed up yet, and what the log will say about it."""
    settings = Settings.from_environ(environ)
    speed_settings = SpeedSettings.from_environ(environ)
    device = easel_precision.choose_device()
    dtype = easel_precision.choose_dtype(settings.dtype, device)
    folder = easel_pipeline.find_folder(model_dir, settings)
    refiner_folder = easel_refiner.find_refiner(model_dir, settings)
    for each in (folder, refiner_folder):
        if each is not None:
            read_ahead(each, environ)
    clock.mark("find")
    how: Any = {"dtype": dtype, "device": device, "allow_pickle": settings.allow_pickle}
    how["clock"] = clock
    pipeline, refiner = easel_pipeline.load_pipeline(folder, **how), None
    if refiner_folder is not None:
        refiner = easel_refiner.load_refiner(refiner_folder, pipeline, **how)
    easel_vae.prepare(pipeline, device=device, tiling=settings.vae_tiling)
    pipelines = [pipeline] if refiner is None else [pipeline, refiner]
    caches = [speed_settings.compile_cache, model_dir / "compiled", folder / "compiled"]
    compiler = Compiler(pipelines, [each for each in caches if each is not None])
    clock.mark("speed")
    folders = [model_dir / "loras", *([settings.loras] if settings.loras else [])]
    loras = Loras(find_files(folders), pipelines)
    if speed_settings.storage == "fp8":
        loras.keep_originals()
    clock.mark("loras")
    speed = Speed(pipelines, speed_settings, compiler)
    clock.mark("speed")
    painter = Painter(
        pipeline,
        settings.defaults.over(Defaults.from_folder(model_dir)).over(Defaults.from_folder(folder)),
        refiner=refiner,
        loras=loras,
        speed=speed,
        name=settings.model_name,
        metadata=settings.metadata,
        log_prompts=settings.log_prompts,
    )
    return painter, lambda: {
        "pipeline": type(pipeline).__name__,
        "model": settings.model_name,
        "refiner": None if refiner is None else type(refiner).__name__,
        "loras": loras.names,
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "speed": speed.report,
        "software": easel_pipeline.software(),
    }
