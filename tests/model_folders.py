"""Model folders of valid files with next to nothing in them, made without torch."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

_DIFFUSERS = "diffusion_pytorch_model.safetensors"
# What Stable Diffusion 1 consists of, and SDXL's base and refiner.
SD = {
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
SDXL = SD | {
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
}
REFINER = {
    name: SDXL[name] for name in ("scheduler", "tokenizer_2", "text_encoder_2", "unet", "vae")
}
_FILES = {
    "scheduler": ["scheduler_config.json"],
    "tokenizer": ["vocab.json", "merges.txt"],
    "text_encoder": ["config.json", "model.safetensors"],
}
_OTHER_FILES = ["config.json", _DIFFUSERS]


def safetensors(values: int = 4) -> bytes:
    """Return a file with one tensor of 16-bit numbers."""
    tensor = {"dtype": "F16", "shape": [values], "data_offsets": [0, 2 * values]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "weight": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(2 * values)


def write_file(path: Path) -> Path:
    """Write a valid file of the kind that the path's suffix means."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".safetensors":
        path.write_bytes(safetensors())
    else:
        path.write_text("{}" if path.suffix == ".json" else path.name, encoding="utf-8")
    return path


def write_pipeline(
    folder: Path, kind: str = "StableDiffusionPipeline", parts: dict[str, list[str]] | None = None
) -> Path:
    """Write a pipeline's folder: its index, and the files of its components."""
    parts = SD if parts is None else parts
    index: dict[str, Any] = {"_class_name": kind, "safety_checker": [None, None], **parts}
    for name in parts:
        for file in _FILES.get(name.removesuffix("_2"), _OTHER_FILES):
            write_file(folder / name / file)
    write_file(folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def write_ensemble(folder: Path) -> Path:
    """Write SDXL's base and refiner; the refiner's folder lacks what it shares with the base."""
    write_pipeline(folder / "base", "StableDiffusionXLPipeline", SDXL)
    own = {"scheduler": SD["scheduler"], "unet": SD["unet"]}
    write_pipeline(folder / "refiner", "StableDiffusionXLImg2ImgPipeline", own)
    index = {"_class_name": "StableDiffusionXLImg2ImgPipeline", **REFINER}
    (folder / "refiner" / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder
