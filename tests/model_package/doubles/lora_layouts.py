"""Adapters by peft for a part of a pipeline, and their files as the tools write them.

`adapt` makes random adapters and the weights that peft itself merges them to. The functions below
it spell the same tensors in the layout of one tool each.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass

import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from easel.lora import layer_names
from easel.startup.quiet import without_warnings

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut"]
_KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
_COMFY = {"unet": "diffusion_model", "text_encoder": "text_encoders.clip_l.transformer.text_model"}
_SUFFIX = re.compile(r"(.+)\.(lora_A|lora_B|lora_magnitude_vector|hada_\w+|lokr_\w+?)(?:\.weight)?")


@dataclass
class Adapted:
    """A part with an adapter: tensors by layer and kind, and the merged weights by layer."""

    part: str
    config: object
    layers: dict[str, dict[str, torch.Tensor]]
    alphas: dict[str, float]
    scales: dict[str, float]
    merged: dict[str, torch.Tensor]


def lora(**options):
    return LoraConfig(**{"r": 4, "lora_alpha": 2, "init_lora_weights": False, **options})


def loha(**options):
    return LoHaConfig(**{"r": 4, "alpha": 2, "init_weights": False, **options})


def lokr(**options):
    return LoKrConfig(**{"r": 4, "alpha": 2, "init_weights": False, **options})


def adapt(pipeline, config, part="unet", seed=0):
    """Return a random adapter of a copy of the part."""
    model = copy.deepcopy(getattr(pipeline, part))
    torch.manual_seed(seed)
    with without_warnings():
        model = inject_adapter_in_model(config, model)
        for name, parameter in model.named_parameters():
            if "magnitude" in name:  # peft starts with the weight's own, which tests nothing
                parameter.data *= 0.5 + torch.rand_like(parameter)
        state = get_peft_model_state_dict(model)
        layers: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in state.items():
            name, kind = _SUFFIX.fullmatch(key).groups()
            layers.setdefault(name, {})[kind] = tensor.detach().clone()
        merged, alphas, scales = {}, {}, {}
        for name, module in model.named_modules():
            if isinstance(module, BaseTunerLayer):
                # Files hold alpha for a division by the rank, also those with a root of it.
                scales[name] = module.scaling["default"]
                alphas[name] = scales[name] * module.r["default"]
                module.merge()
                merged[name] = module.get_base_layer().weight.detach().clone()
    return Adapted(part, config, layers, alphas, scales, merged)


def _published(part, name):
    inside = part == "unet" or name.startswith("text_model.")
    return name if inside else f"text_model.{name}"


def kohya(adapted, names=None, prefix=None):
    """As kohya's scripts and LyCORIS; `names` maps diffusers' names to other ones."""
    tensors = {}
    kinds = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight"}
    for name, of_layer in adapted.layers.items():
        plain = (names or {}).get(name) or _published(adapted.part, name).replace(".", "_")
        start = (_KOHYA[adapted.part] if prefix is None else prefix) + plain
        for kind, tensor in of_layer.items():
            if kind == "lora_magnitude_vector":
                shape = (tensor.numel(), *[1] * (of_layer["lora_A"].ndim - 1))
                tensors[f"{start}.dora_scale"] = tensor.reshape(shape)
            else:
                tensors[f"{start}.{kinds.get(kind, kind)}"] = tensor
        tensors[f"{start}.alpha"] = torch.tensor(float(adapted.alphas[name]))
        if {"lokr_w1", "lokr_w2"} <= set(of_layer):  # LyCORIS has no scale there, peft has one
            tensors[f"{start}.lokr_w1"] = of_layer["lokr_w1"] * adapted.scales[name]
    return tensors, {}


def diffusers(adapted, form="{}.{}.weight", start=None):
    """As diffusers' `save_lora_weights` with peft's configuration."""
    start = f"{adapted.part}." if start is None else start
    tensors = {}
    for name, of_layer in adapted.layers.items():
        published = _published(adapted.part, name)
        for kind, tensor in of_layer.items():
            whole = form if kind in {"lora_A", "lora_B"} else "{}.{}"
            tensors[start + whole.format(published, kind)] = tensor
    wanted = {"r", "lora_alpha", "alpha", "alpha_pattern", "rank_pattern", "use_rslora"}
    config = {
        f"{adapted.part}.{key}": value
        for key, value in adapted.config.to_dict().items()
        if key in wanted | {"use_dora", "target_modules"}
    }
    config = {key: sorted(each) if isinstance(each, set) else each for key, each in config.items()}
    return tensors, {"lora_adapter_metadata": json.dumps(config)}


def comfy(adapted, pipeline):
    """As ComfyUI saves them: the names of Stability AI's code, with dots."""
    tensors = {}
    names = stability(pipeline)
    kinds = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight"}
    for name, of_layer in adapted.layers.items():
        if adapted.part == "unet":
            inner = name.split("attentions.", 1)[1].split(".", 1)[1]
            place = names[name].removesuffix("_" + inner.replace(".", "_"))
            name_there = re.sub(r"_(\d+)", r".\1", place) + "." + inner
        else:
            name_there = name.removeprefix("text_model.")
        start = f"{_COMFY[adapted.part]}.{name_there}"
        for kind, tensor in of_layer.items():
            tensors[f"{start}.{kinds.get(kind, kind)}"] = tensor
        tensors[f"{start}.alpha"] = torch.tensor(float(adapted.alphas[name]))
    return tensors, {}


def old_diffusers(adapted):
    """As diffusers wrote in 2023, in both of its spellings; scaled, since it had no alpha."""
    tensors = {}
    swap = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
    for name, of_layer in adapted.layers.items():
        parent, _, layer = _published(adapted.part, name).removesuffix(".0").rpartition(".")
        inner = f"processor.{layer}" if adapted.part == "unet" else swap[layer]
        start = f"{adapted.part}.{parent}.{inner}_lora"
        rank = len(of_layer["lora_A"])
        tensors[f"{start}.down.weight"] = of_layer["lora_A"]
        tensors[f"{start}.up.weight"] = of_layer["lora_B"] * (adapted.alphas[name] / rank)
    return tensors, {}


def stability(pipeline):
    """Return Stability AI's name of each layer of the UNet, by diffusers' name."""
    table = layer_names.layers(pipeline.unet)
    last = {id(layer): name for name, layer in table.items()}  # Stability's names come last
    modules = pipeline.unet.named_modules()
    return {name: last[id(each)] for name, each in modules if id(each) in last}


def write(path, *files):
    """Write one file of the tensors and the metadata of each layout."""
    tensors, metadata = {}, {"format": "pt"}
    for of_part, text in files:
        tensors |= of_part
        for key, value in text.items():
            joined = {**json.loads(metadata.get(key, "{}")), **json.loads(value)}
            metadata[key] = json.dumps(joined)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return path


def comfy_reads(pipeline, keys):
    """Whether ComfyUI finds a layer for each of a file's keys; its rules are those of `comfy.lora`.

    It takes a layer's names, with the suffixes of each method, and leaves all other keys aside.
    """
    names = {"lora_te_text_model_encoder_layers", "lora_te1_text_model_encoder_layers"}
    layers = stability(pipeline)
    for name, there in layers.items():
        plain = name.replace(".", "_")
        names |= {f"lora_unet_{there}", f"lora_unet_{plain}", f"lycoris_{plain}"}
        old = name.replace(".to_", ".processor.to_").replace(".to_out.0", ".to_out")
        names |= {old, f"unet.{old}"}
        if "attentions." in name:
            inner = name.split("attentions.", 1)[1].split(".", 1)[1]
            place = there.removesuffix("_" + inner.replace(".", "_"))
            names.add("diffusion_model." + re.sub(r"_(\d+)", r".\1", place) + "." + inner)
    for name, layer in pipeline.text_encoder.named_modules():
        if isinstance(layer, torch.nn.Linear):
            dotted = "text_model." + name.removeprefix("text_model.")
            plain = dotted.replace(".", "_")
            names |= {f"lora_te_{plain}", f"lora_te1_{plain}", f"text_encoder.{dotted}"}
            names.add(f"text_encoders.clip_l.transformer.{dotted}")
    suffix = re.compile(
        r"\.lora_(up|down|mid)\.weight|_lora\.(up|down)\.weight|\.lora_[AB](\.default)?\.weight"
        r"|\.lora(_linear_layer)?\.(up|down)\.weight|\.(alpha|dora_scale|diff|diff_b|w_norm|b_norm)"
        r"|\.(hada_w[12]_[ab]|hada_t[12]|lokr_w[12](_[ab])?|lokr_t2)"
    )
    starts = [(key, suffix.search(key)) for key in keys]
    return all(found and key[: found.start()] in names for key, found in starts)
