"""From settings and a model's folder to an image generator, timed step by step for the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from easel import log, static
from easel.defaults import Defaults, read_description
from easel.errors import ModelUnusable, SettingInvalid
from easel.generator import ImageGenerator
from easel.loading import compiled, vae
from easel.loading.dtype import choose_device, choose_dtype
from easel.loading.merged_lora import find_merged_lora, merge_lora
from easel.loading.pipeline import find_folder, find_home, load_pipeline, software
from easel.loading.quantised import find_quantised, load_quantised
from easel.loading.refiner import find_refiner, load_refiner
from easel.lora.adapters import Loras
from easel.lora.file import find_files
from easel.lora.places import place_at
from easel.model_folder.description import Description
from easel.model_folder.files import MERGED_LORA
from easel.settings import PREPARED, Settings
from easel.speed import eight_bits
from easel.speed.compiler import Compiler
from easel.speed.speed import Speed, SpeedSettings
from easel.startup import gc_pause
from easel.startup.read_ahead import read_ahead
from easel.startup.stopwatch import Stopwatch
from generation import InvalidField


def load_generator(
    model_dir: Path, environ: Mapping[str, str], *, stopwatch: Stopwatch | None = None
) -> ImageGenerator:
    """Read the settings, load the model and warm it up.

    Args:
        model_dir: the model's folder.
        environ: the variables that Settings and SpeedSettings read.
        stopwatch: with the steps before this one; the log's `model_loaded` lists all of them.

    Raises:
        ModelUnusable: if the settings, the model's files or its defaults are invalid.
        GenerationFailed: if the model cannot generate.
    """
    stopwatch = stopwatch or Stopwatch()
    # Loading creates many objects that stay; the collector would scan them repeatedly.
    with gc_pause.paused():
        loaded = _load(model_dir, environ, stopwatch)
        generator = loaded.generator()
    try:
        generator.warm_up()
    except InvalidField as error:
        # Nobody has sent that field: it is no caller's fault.
        raise ModelUnusable(f"a default, or a size of EASEL_WARM_UP: {error}") from error
    stopwatch.mark("warm_up")
    # After the warm-up, which may have turned an optimisation off.
    log.event("model_loaded", **loaded.describe(), seconds=stopwatch.seconds, steps=stopwatch.steps)
    return generator


@dataclass
class _Loaded:
    """The parts of an image generator.

    Attributes:
        pipelines: the base, and the refiner if there is one.
        device: where they compute, in `dtype`.
    """

    settings: Settings
    defaults: Defaults
    description: Description
    pipelines: Sequence[Any]
    device: torch.device
    dtype: torch.dtype
    loras: Loras
    speed: Speed

    def generator(self) -> ImageGenerator:
        base, *refiners = self.pipelines
        return ImageGenerator(
            base,
            self.defaults,
            refiner=refiners[0] if refiners else None,
            loras=self.loras,
            speed=self.speed,
            description=self.description,
            name=self.settings.model_name,
            metadata=self.settings.metadata,
            log_prompts=self.settings.log_prompts,
        )

    def describe(self) -> dict[str, object]:
        """Return the fields of the log's `model_loaded`."""
        base, *refiners = (type(pipeline).__name__ for pipeline in self.pipelines)
        accelerator = getattr(self.pipelines[0], "accelerator", None)
        return {
            "pipeline": base,
            "model": self.settings.model_name,
            "refiner": refiners[0] if refiners else None,
            "loras": self.loras.names,
            "device": accelerator or str(self.device),
            "dtype": "compiled" if accelerator else str(self.dtype).removeprefix("torch."),
            "speed": self.speed.report,
            "software": software(),
        }


def _load(model_dir: Path, environ: Mapping[str, str], stopwatch: Stopwatch) -> _Loaded:
    settings = Settings.from_environ(environ)
    speed_settings = SpeedSettings.from_environ(environ)
    device = choose_device()
    dtype = choose_dtype(settings.dtype, device)
    home = find_home(model_dir, settings)
    folders = _find_folders(model_dir, home, settings, environ)
    if compiled.is_compiled(folders[0]):
        static.refuse(settings, speed_settings, folders, _adapters([model_dir, home], settings))
    merged = find_merged_lora(model_dir, home, settings)
    quantised = find_quantised(model_dir, home, settings)
    stopwatch.mark("find")
    rounds = settings.quantise in eight_bits.FORMATS
    # Rounded weights are moved one by one: a GPU need not hold the model in 16 bits.
    first = torch.device("cpu") if rounds else device
    how = {"dtype": dtype, "device": first, "allow_pickle": settings.allow_pickle}
    parts = load_quantised(quantised, folders[0], settings, dtype=dtype) if quantised else None
    pipelines = _load_pipelines(folders, parts, {**how, "stopwatch": stopwatch})
    if merged is not None:
        merge_lora(merged, pipelines, settings)
    # After the pipelines, because each file is checked against their layers.
    loras = _load_loras([model_dir, home], settings, pipelines, environ)
    stopwatch.mark("loras")
    if rounds:
        _round(pipelines, loras, settings.quantise, device)
        stopwatch.mark("quantise")
    elif speed_settings.storage == "fp8":  # before Speed rounds the weights
        loras.keep_originals(eight_bits.denoiser_layers(pipelines, transformers=False))
    vae.prepare(pipelines[0], device=device, tiling=settings.vae_tiling)
    caches = [speed_settings.compile_cache, model_dir / "compiled", folders[0] / "compiled"]
    compiler = Compiler(pipelines, [folder for folder in caches if folder is not None])
    speed = Speed(pipelines, speed_settings, compiler, quantised=settings.quantise)
    stopwatch.mark("speed")
    # The order of precedence: EASEL_DEFAULTS, the model's folder, the pipeline's own folder.
    defaults = settings.defaults.over(Defaults.from_folder(model_dir))
    defaults = defaults.over(Defaults.from_folder(home)).over(Defaults.from_folder(folders[0]))
    static_size = getattr(pipelines[0], "static_size", None)
    if static_size is not None:
        static.check_defaults(defaults, static_size)
    described = [read_description(folder) for folder in (model_dir, home, folders[0])]
    description = next((each for each in described if each.to_dict()), Description())
    return _Loaded(settings, defaults, description, pipelines, device, dtype, loras, speed)


def _find_folders(
    model_dir: Path, home: Path, settings: Settings, environ: Mapping[str, str]
) -> list[Path]:
    """Return the base's folder, and the refiner's if there is one; start reading both ahead."""
    folders = [find_folder(home, settings)]
    refiner = find_refiner(model_dir, settings, home)
    if refiner is not None:
        folders.append(refiner)
    for folder in folders:
        read_ahead(folder, environ)
    return folders


def _load_pipelines(
    folders: Sequence[Path], parts: Mapping[str, Any] | None, how: dict[str, Any]
) -> list[Any]:
    base = load_pipeline(folders[0], parts=parts, **how)
    return [base, *(load_refiner(folder, base, **how) for folder in folders[1:])]


def _round(pipelines: Sequence[Any], loras: Loras, form: str, device: torch.device) -> None:
    """Store weights in 8 bits, and move the pipelines to the device that they compute on."""
    rounded = eight_bits.EightBits(eight_bits.large_layers(pipelines), form)
    if not rounded.layers:
        raise SettingInvalid(
            f"EASEL_QUANTISE is {form}, which this model does not support, because it has neither "
            "a UNet nor a transformer; unset it"
        )
    loras.keep_originals(rounded.layers)
    try:
        rounded.start(device)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError, TypeError) as error:
        raise SettingInvalid(
            f"EASEL_QUANTISE is {form}, which this device does not support "
            f"({type(error).__name__}: {str(error)[:300]}); set it to "
            f"{'int8 or ' if form == 'fp8' else ''}none"
        ) from error
    for pipeline in pipelines:
        pipeline.to(device)


def _load_loras(
    homes: Sequence[Path],
    settings: Settings,
    pipelines: Sequence[Any],
    environ: Mapping[str, str],
) -> Loras:
    place = place_at(settings.loras_from, environ) if settings.loras_from else None
    obstacle = None
    if settings.quantise in PREPARED:
        obstacle = f"this model's weights are quantised ({settings.quantise}), and take no LoRA"
    files = find_files(_folders(homes, settings))
    merged = getattr(pipelines[0], "merged_lora", None)
    return Loras(files, pipelines, place, merged=merged, obstacle=obstacle)


def _adapters(homes: Sequence[Path], settings: Settings) -> list[Path]:
    merged = [home / MERGED_LORA for home in homes]
    return [path for _, path in find_files([*_folders(homes, settings), *merged])]


def _folders(homes: Sequence[Path], settings: Settings) -> list[Path]:
    own = dict.fromkeys(home / "loras" for home in homes)
    return [*own, *([settings.loras] if settings.loras else [])]
