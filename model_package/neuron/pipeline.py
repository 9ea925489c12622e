"""Load a compiled model onto the two cores of an Inferentia2 chip, as a diffusers pipeline.

The UNet is on both cores, and each computes one half of guidance. optimum-neuron's loader sees to
that itself; its argument `data_parallel_mode` has no effect.
"""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import Any

from easel.startup.quiet import without_warnings

# isort: split
import neuronxcc
import optimum.neuron
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from optimum.neuron.utils import instance, system

from easel.errors import ModelUnusable
from easel.model_folder.files import SAFE

from .manifest import Manifest, check_machine, read_manifest

_KINDS = {
    "StableDiffusionPipeline": "NeuronStableDiffusionPipeline",
    "StableDiffusionXLPipeline": "NeuronStableDiffusionXLPipeline",
}
_CHECKER = "safety_checker"


def load(folder: Path) -> Any:
    """Return the pipeline of a compiled model.

    It has the call of diffusers' pipeline, and more attributes: `accelerator`, its name;
    `static_size`, the width and height of every picture in pixels; and `merged_lora`, the adapter
    in the weights, as `name:weight`, or None.

    Raises:
        ModelUnusable: if the folder is not complete, or this machine cannot run it.
    """
    manifest = read_manifest(folder)
    if manifest.pipeline not in _KINDS:
        raise ModelUnusable(f"{manifest.pipeline} is not served from Inferentia2")
    cores = system.get_available_cores()
    machine = _machine(manifest) if cores else "without a Neuron device"
    check_machine(manifest, compiler=neuronxcc.__version__, machine=machine, cores=cores)
    kind = _with_own_call(getattr(optimum.neuron, _KINDS[manifest.pipeline]), manifest)
    with without_warnings():
        pipeline = kind.from_pretrained(str(folder))
        if list((folder / _CHECKER).glob(f"*{SAFE}")):
            pipeline.safety_checker = StableDiffusionSafetyChecker.from_pretrained(
                folder / _CHECKER
            ).eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _machine(manifest: Manifest) -> str:
    """Return the family of this instance; if the container cannot see it, the manifest's."""
    try:
        return str(instance.current_instance_type())
    except RuntimeError:
        return manifest.instance


def _with_own_call(kind: Any, manifest: Manifest) -> Any:
    """Return a class whose call has the signature of diffusers' pipeline.

    optimum-neuron's takes any arguments, and drops width and height without a word. Easel reads
    what a pipeline can do from the signature.
    """

    @wraps(kind.auto_model_class.__call__)
    def call(self: Any, *args: Any, **arguments: Any) -> Any:
        return kind.__call__(self, *args, **arguments)

    attributes = {
        "__call__": call,
        "accelerator": "Inferentia2",
        "static_size": (manifest.width, manifest.height),
        "merged_lora": str(manifest.lora) if manifest.lora else None,
    }
    return type(kind.__name__, (kind,), attributes)
