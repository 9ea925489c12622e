"""Random LoRA files for a pipeline, in the forms that are about."""

from __future__ import annotations

import json

import torch
from safetensors.torch import save_file

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")
PARTS = ("unet", "text_encoder", "text_encoder_2")
KOHYA = {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_", "unet": "lora_unet_"}


def random_layers(pipeline, *, rank=4, seed=0, ends=ATTENTION, parts=PARTS, size=0.3):
    """Return down and up by part and layer; the same arguments give the same numbers."""
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for part in parts:
        for name, layer in getattr(pipeline, part, torch.nn.Module()).named_modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) and name.endswith(ends):
                rows, columns, *kernel = layer.weight.shape
                down = torch.randn(rank, columns, *kernel, generator=generator) * size
                up = torch.randn(rows, rank, *[1] * len(kernel), generator=generator) * size
                layers[part, name] = down, up
    return layers


def _published(part, name):
    """Text encoders' layers have one level more in published files than in transformers 5."""
    inside = part in {"unet", "transformer"} or name.startswith("text_model.")
    return name if inside else f"text_model.{name}"


def write_diffusers(path, layers, *, alpha=None, forms=("lora_A", "lora_B")):
    tensors, config = {}, {}
    for (part, name), (down, up) in layers.items():
        for form, tensor in zip(forms, (down, up), strict=True):
            tensors[f"{part}.{_published(part, name)}.{form}.weight"] = tensor
        if alpha is not None:
            config |= {f"{part}.lora_alpha": alpha, f"{part}.r": len(down)}
            config[f"{part}.target_modules"] = ATTENTION
    save_file(tensors, path, {"format": "pt", "lora_adapter_metadata": json.dumps(config)})


def write_kohya(path, layers, *, alpha=None, single=False):
    tensors = {}
    for (part, name), (down, up) in layers.items():
        prefix = "lora_te_" if single and part == "text_encoder" else KOHYA[part]
        key = prefix + _published(part, name).replace(".", "_")
        tensors[f"{key}.lora_down.weight"] = down
        tensors[f"{key}.lora_up.weight"] = up
        tensors[f"{key}.alpha"] = torch.tensor(float(len(down) if alpha is None else alpha))
    save_file(tensors, path, {"format": "pt"})


def write_old_diffusers(path, layers):
    """Write as diffusers did before peft: processors of the UNet alone, without a prefix."""
    tensors = {}
    for (_, name), (down, up) in layers.items():
        attention, _, layer = name.removesuffix(".0").rpartition(".")
        key = f"unet.{attention}.processor.{layer}_lora"
        tensors |= {f"{key}.down.weight": down, f"{key}.up.weight": up}
    save_file(tensors, path)
