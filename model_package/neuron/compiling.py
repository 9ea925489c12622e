"""Compile the parts of a pipeline, one after the other, as optimum-neuron's exporter does.

optimum-neuron compiles all parts in one call. Here each part is a call of its own, so that there is
progress to report, and an interrupted job keeps what is compiled already.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from easel.loading.merged_lora import find_merged_lora, merge_lora
from easel.loading.pipeline import load_pipeline, read_index
from easel.lora.adapters import Loras
from easel.model_folder import files as model_folder
from easel.settings import Settings
from generation import InvalidField

from .job import INSTANCE, CompileFailed, Job, MergedLora
from .manifest import FILE, PARTS, PROGRAM

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
# Defaults that are meaningless for a model of one size without a refiner.
_DROPPED = ("largest_area", "refiner_start")
# What is served from the CPU as it is.
_KEPT = ("feature_extractor", "safety_checker")
# optimum-neuron's own defaults: matrix products in bf16, everything else as in the weights.
_COMPILER: dict[str, str] = {
    "auto_cast": "matmul",
    "auto_cast_type": "bf16",
    "instance_type": INSTANCE,
}


def find_model(folder: Path) -> Path:
    """Return the folder of the pipeline, which can be `base/` in a model's folder.

    Raises:
        CompileFailed: if there is none, or one that cannot be compiled.
    """
    if not model_folder.contains_model(folder):
        raise CompileFailed("The channel model has no model_index.json; name a diffusers folder.")
    if model_folder.holds_model(folder / model_folder.REFINER):
        raise CompileFailed(
            "The model has a refiner, for which an Inferentia2 chip has no room; remove refiner/."
        )
    home = folder if model_folder.holds_model(folder) else folder / model_folder.BASE
    kind = str(read_index(home).get("_class_name"))
    if kind not in PIPELINES:
        raise CompileFailed(
            f"{kind} cannot be compiled for Inferentia2; Stable Diffusion 1 and 2, SD-Turbo and "
            "SDXL can be."
        )
    return home


def load_merged(home: Path, folder: Path, lora: MergedLora | None, file: Path | None) -> Any:
    """Return the pipeline in 32 bits, with the adapter in its weights.

    The formulas are those of a request that names the adapter. A LoRA that belongs to the model
    (`merged_lora/`) is added before, as it is when a model of weights is loaded.

    Args:
        home: the model's folder.
        folder: of the pipeline, the same or one in it.
        lora: the adapter's name and weight; None for none.
        file: the adapter's.

    Raises:
        ModelUnusable: if the model cannot be loaded.
        InvalidField: naming `lora`, if the adapter does not fit the model.
    """
    own = find_merged_lora(home, home, Settings())
    pipeline = load_pipeline(
        folder, dtype=torch.float32, device=torch.device("cpu"), allow_pickle=False
    )
    if own is not None:
        merge_lora(own, [pipeline], Settings())
    if lora is not None and file is not None:
        loras = Loras([(lora.name, file)], [pipeline])
        with loras.applied(str(lora)):
            pass  # which leaves the weights changed
    return pipeline


class Parts:
    """The parts of one pipeline that a device runs, each to be compiled.

    Args:
        pipeline: from `load_merged`.
        folder: of the pipeline.
        job: with the size.
        output: where the configurations, tokenizers and the scheduler are written to.
    """

    def __init__(self, pipeline: Any, folder: Path, job: Job, output: Path) -> None:
        # Here and not above: importing them takes ten seconds, and requires Neuron's packages.
        from optimum.exporters.neuron import (
            load_models_and_neuron_configs,
            normalize_diffusers_input_shapes,
        )

        shapes = normalize_diffusers_input_shapes(
            {"batch_size": 1, "num_images_per_prompt": 1, "width": job.width, "height": job.height}
        )
        output.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._models, self._files = load_models_and_neuron_configs(
            model_name_or_path=str(folder),
            output=output,
            model=pipeline,
            task="text-to-image",
            dynamic_batch_size=False,
            cache_dir=None,
            trust_remote_code=False,
            subfolder="",
            revision="main",
            library_name="diffusers",
            force_download=False,
            local_files_only=True,
            token=None,
            submodels=None,
            **shapes,
        )
        self.names = tuple(part for part in PARTS if part in self._models)

    def compile(self, part: str, output: Path) -> None:
        """Write a part's configuration and program into `output`, in a folder of its name.

        The part is dropped afterwards, so that its memory is free for the next one.
        """
        from optimum.exporters.neuron import export_models

        export_models(
            models_and_neuron_configs={part: self._models.pop(part)},
            task="text-to-image",
            output_dir=output,
            # The cache is for parts whose weights are apart from their programs.
            disable_neuron_cache=True,
            inline_weights_to_neff=True,
            optlevel="2",
            output_file_names={part: self._files[part]},
            compiler_kwargs=dict(_COMPILER),
            model_name_or_path=str(self._folder),
        )


def write_rest(home: Path, folder: Path, job: Job, output: Path) -> None:
    """Write what a served model needs besides its parts: defaults, safety checker, manifest.

    Args:
        home: the model's folder.
        folder: of the pipeline, the same or one in it.
        job: what was compiled.
        output: the folder of the result.
    """
    defaults: dict[str, Any] = {}
    for place in (folder, home):
        if (place / model_folder.DEFAULTS).is_file():
            defaults |= model_folder.read_defaults(place / model_folder.DEFAULTS)
    defaults = {name: value for name, value in defaults.items() if name not in _DROPPED}
    defaults |= {"width": job.width, "height": job.height}
    _write(output / model_folder.DEFAULTS, defaults)
    for path in _kept(folder):
        (output / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / path, output / path)
    manifest = {
        **job.to_dict(),
        "pipeline": read_index(folder).get("_class_name"),
        "compiler_version": compiler_version(),
        "optimum_neuron": _optimum_neuron(),
    }
    _write(output / FILE, manifest)


def _kept(folder: Path) -> Iterator[str]:
    files = model_folder.list_files(folder)
    for name in _KEPT:
        yield from model_folder.choose_component(
            model_folder.within(files, name), model_folder.VARIANT
        )


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def find_adapter(folder: Path, lora: MergedLora | None) -> Path | None:
    """Return the adapter's file in a channel.

    Raises:
        InvalidField: naming `lora`, if the channel has none of this name.
    """
    if lora is None:
        return None
    path = folder / f"{lora.name}.safetensors"
    if not path.is_file():
        raise InvalidField("lora", f"the channel lora has no file {path.name}")
    return path


def require_compiler() -> None:
    """Set the machine to compile for.

    Raises:
        CompileFailed: if this image has no compiler.
    """
    try:
        import torch_neuronx  # noqa: F401 - only whether it is there
        from optimum.neuron.utils.instance import align_compilation_target

        compiler_version()
    except ImportError as error:
        raise CompileFailed(
            f"This image has no compiler for Inferentia2 ({error}); use Hugging Face's neuronx "
            "image."
        ) from error
    # Before the exporter is imported, which would choose for itself.
    align_compilation_target(INSTANCE, override=True)


def compiler_version() -> str:
    """Return the version of neuronx-cc."""
    import neuronxcc

    return str(neuronxcc.__version__)


def _optimum_neuron() -> str:
    from importlib.metadata import version

    return version("optimum-neuron")


def is_compiled(folder: Path) -> bool:
    """Whether a part's folder is complete."""
    return (folder / PROGRAM).is_file() and (folder / "config.json").is_file()
