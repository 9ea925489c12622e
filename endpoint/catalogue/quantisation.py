"""Which ways to store a model's weights in fewer bits a model and a GPU have."""

from __future__ import annotations

from dataclasses import replace

from endpoint.catalogue import memory
from endpoint.catalogue.memory import QUANTISED, fit
from endpoint.catalogue.models import NONE, Model
from endpoint.catalogue.prices import InstanceType

NAMES = (NONE, *QUANTISED)
# These need a denoiser that somebody else has quantised.
_FROM_FILES = ("gguf", "nunchaku_lite")
# Its kernels for 4-bit integers: from Turing (T4) on, and not on Hopper (H100, H200).
# diffusers/quantizers/nunchaku/nunchaku_quantizer.py
_TURING, _HOPPER = 7.5, 9


def of_model(model: Model) -> tuple[str, ...]:
    """Return the quantisations that a model can have, `none` first.

    A folder whose denoiser is quantised has no other.
    """
    if model.folder and (kind := memory.quantised_in(model.folder)) != NONE:
        return (kind,)
    return tuple(name for name in NAMES if name not in _FROM_FILES or name in model.quantised)


def package(quantise: str) -> str | None:
    """Return the Python package that a quantisation needs; None if torch is enough.

    Easel's own image has `gguf`, and AWS's have neither.
    """
    return {"gguf": "gguf", "nunchaku_lite": "kernels"}.get(quantise)


def needs_hub(quantise: str) -> bool:
    """Whether a quantisation loads kernels, which are code, from the hub at every start.

    diffusers/quantizers/nunchaku/utils.py
    """
    return quantise == "nunchaku_lite"


def refusal(model: Model, instance: InstanceType | None = None) -> str | None:
    """Return why a model cannot be stored the way it says; None if it can.

    Args:
        model: the model, with its `quantise`.
        instance: where it would run; None for anywhere.
    """
    if model.quantise not in of_model(model):
        ways = ", ".join(of_model(model))
        return f"no file for {model.quantise} is known of {model.name}; it has {ways}"
    if model.quantise == NONE or instance is None:
        return None
    if instance.compute is None:
        return f"{instance.gpu} of {instance.name} has none: its models are compiled"
    if model.quantise == "nunchaku_lite" and not _TURING <= instance.compute < _HOPPER:
        return f"{instance.gpu} of {instance.name} has no kernels for nunchaku_lite"
    if model.dtype == "bf16" and not instance.bf16:
        return f"{instance.gpu} of {instance.name} lacks bf16, in which {model.name} is computed"
    return None


def smaller(model: Model, instance: InstanceType) -> tuple[str, float] | None:
    """Return the first quantisation that fits well where the model does not, and its bytes."""
    for name in of_model(model)[1:]:
        other = replace(model, quantise=name)
        needed = other.memory(instance)
        if needed and refusal(other, instance) is None and fit(needed, instance).state == "fits":
            return name, needed.total
    return None
