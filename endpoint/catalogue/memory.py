"""The memory that a model needs, by one formula for every model and number format.

    weights      parameters x bytes of a number, of each component
    activations  what decoding one picture needs, which is more than a denoising step does
    overhead     of CUDA: its context, workspaces, and what its allocator cannot use

A GB is 10**9 bytes, as in the size of a file. A GPU of 24 GB has 24.1 of these.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from endpoint.catalogue.prices import InstanceType
from endpoint.core.model_folder.files import (
    GGUF,
    REFINER,
    is_safe,
    list_files,
    quantised_files,
    select,
)

GB = 10**9
# Bytes of a number. `auto` is 16 bits on every GPU.
_BYTES = {"auto": 2.0, "fp16": 2.0, "bf16": 2.0, "fp32": 4.0}
# Of a weight of a linear or convolution layer, by how it is stored. Blocks of 32 weights of GGUF's
# Q8_0 share a scale of 16 bits. Nunchaku's have 4 bits, a scale for each 64, and a low-rank part.
QUANTISED = {"fp8": 1.0, "int8": 1.0, "gguf": 34 / 32, "nunchaku_lite": 0.65}
# Text encoders with fewer parameters stay as they are: there is little to gain.
LARGE_TEXT = 10**9
# Bytes for a pixel while a VAE decodes in 16 bits: six maps of 128 channels at full size. 1.5 GiB
# for 1024 x 1024, from a trace of the tensors (docs/models.md). Slicing decodes one at a time.
_PIXEL_BYTES = 6 * 128 * 2
_OVERHEAD = 0.5 * GB
# The libraries, and the first request.
_LOADING = 2 * GB
# Folders with files that are no component's.
_NO_COMPONENTS = {"loras", "merged_lora", "quantised"}
# The formula is right to within a tenth, because of the activations: weights are counted.
_TIGHT, _TOO_LARGE = 0.9, 1.1


@dataclass(frozen=True)
class Component:
    """A part of a pipeline.

    Attributes:
        name: its folder, such as unet or text_encoder_2; a refiner's begin with `refiner/`.
        parameters: their number.
        kept: how many of them are outside linear and convolution layers, such as embeddings:
            quantising leaves these as they are.
    """

    name: str
    parameters: int
    kept: int = 0

    @property
    def is_denoiser(self) -> bool:
        """Whether it runs in every step."""
        return PurePosixPath(self.name).name in {"unet", "transformer"}

    def is_quantised(self, quantise: str) -> bool:
        """Whether a quantisation changes it.

        8 bits are for denoisers and large text encoders; files of GGUF and Nunchaku have denoisers.
        """
        if quantise not in QUANTISED:
            return False
        is_text = PurePosixPath(self.name).name.startswith("text_encoder")
        large = is_text and self.parameters >= LARGE_TEXT and quantise in {"fp8", "int8"}
        return self.is_denoiser or large

    def size(self, dtype: str, quantise: str = "none") -> float:
        """Return the bytes of its weights."""
        full = _BYTES[dtype]
        if not self.is_quantised(quantise):
            return self.parameters * full
        return (self.parameters - self.kept) * QUANTISED[quantise] + self.kept * full


@dataclass(frozen=True)
class Estimate:
    """The memory of a model on a GPU, in bytes.

    Attributes:
        weights: of all components.
        activations: at the peak of a request for one picture.
        overhead: of CUDA.
        loading: the main memory that loading takes: weights are converted after they are read.
    """

    weights: float
    activations: float
    overhead: float
    loading: float

    @property
    def total(self) -> float:
        """All of it on the GPU."""
        return self.weights + self.activations + self.overhead


def weights(components: Iterable[Component], dtype: str, quantise: str = "none") -> float:
    """Return the bytes of the components' weights.

    Args:
        components: each once, also if a refiner shares it.
        dtype: auto, fp16, bf16 or fp32.
        quantise: none, or a name of `QUANTISED`.
    """
    return sum(component.size(dtype, quantise) for component in components)


def estimate(
    components: Iterable[Component],
    *,
    dtype: str,
    quantise: str = "none",
    width: int,
    height: int,
    wide_vae: bool = False,
) -> Estimate:
    """Return what a model needs for one picture at a time.

    Args:
        components: as for `weights`.
        dtype: likewise.
        quantise: likewise.
        width: of the picture, in pixels.
        height: likewise.
        wide_vae: whether its VAE computes in 32 bits, since it overflows in 16.
    """
    parts = tuple(components)
    pixel = _PIXEL_BYTES * _BYTES[dtype] / 2 * (2 if wide_vae and dtype != "fp32" else 1)
    # A file with a quantised denoiser is read instead of the original.
    read = quantise if quantise in {"gguf", "nunchaku_lite"} else "none"
    return Estimate(
        weights(parts, dtype, quantise),
        pixel * width * height,
        _OVERHEAD,
        weights(parts, dtype, read) + _LOADING,
    )


@dataclass(frozen=True)
class Fit:
    """Whether a model fits on an instance type.

    Attributes:
        state: fits, tight or too large.
        finding: in words.
    """

    state: str
    finding: str


def fit(needed: Estimate, instance: InstanceType) -> Fit:
    """Compare what a model needs with what an instance type has."""
    there = instance.gpu_gib * GB
    share = needed.total / there
    certain = needed.weights + needed.overhead
    possible = share <= _TOO_LARGE and certain <= there
    state = "fits" if share <= _TIGHT else "tight" if possible else "too large"
    finding = f"{needed.total / GB:.1f} of {instance.gpu_gib} GB: {state}"
    main = instance.ram_gib * 1024**3
    if needed.loading > main:
        state = "tight" if state == "fits" else state
        finding += (
            f"; loading takes up to {needed.loading / GB:.0f} GB of main memory, of which there are"
            f" {main / GB:.0f}"
        )
    return Fit(state, finding)


def of_entry(parameters: Mapping[str, int], embeddings: Mapping[str, int]) -> tuple[Component, ...]:
    """Return the components of an entry of the catalogue."""
    return tuple(
        Component(name, count, embeddings.get(name, 0)) for name, count in parameters.items()
    )


def of_folder(folder: Path) -> tuple[Component, ...]:
    """Return the components of a model's folder, from the headers of its safetensors files.

    Raises:
        FolderUnusable: if it contains no model.
        ValueError: if a file is no safetensors file.
        OSError: if a file cannot be read.
    """
    found: dict[str, Component] = {}
    for place in select(folder).files:
        path = PurePosixPath(place)
        folders = path.parts[:-1]
        if is_safe(place) and folders and _NO_COMPONENTS.isdisjoint(folders):
            name = _component_of(path)
            before = found.get(name, Component(name, 0))
            count, kept = _count(folder / place)
            found[name] = replace(
                before, parameters=before.parameters + count, kept=before.kept + kept
            )
    if (kind := quantised_in(folder)) != "none":
        paths = [folder / place for place in quantised_files(list_files(folder))]
        size = sum(path.stat().st_size for path in paths)
        found["transformer"] = Component("transformer", int(size / QUANTISED[kind]))
    return tuple(found.values())


def quantised_in(folder: Path) -> str:
    """Return how the denoiser in a model's folder is quantised: gguf, nunchaku_lite or none."""
    paths = quantised_files(list_files(folder))
    if any(path.lower().endswith(GGUF) for path in paths):
        return "gguf"
    return "nunchaku_lite" if paths else "none"


def _component_of(path: PurePosixPath) -> str:
    prefix = REFINER if str(path).startswith(REFINER) else ""
    return f"{prefix}{path.parent.name}"


def _count(path: Path) -> tuple[int, int]:
    """Return the number of parameters in a file, and of those that quantising leaves.

    The format: 8 bytes with the length of a JSON object, and that object, which has the shape of
    each tensor. https://huggingface.co/docs/safetensors/index
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise ValueError(f"{path} is no safetensors file")
        header = json.loads(file.read(length))
    total = kept = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        size = 1
        for side in tensor["shape"]:
            size *= side
        total += size
        # The weights of linear and convolution layers have two or more dimensions, as have
        # embeddings.
        kept += size if len(tensor["shape"]) < 2 or "embed" in name else 0
    return total, kept
