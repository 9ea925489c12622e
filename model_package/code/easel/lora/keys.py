"""The keys of a LoRA file: which layer a tensor belongs to, and which part of the change it is.

A key is a layer's name with a prefix and a suffix that depend on the tool that wrote the file. The
suffixes are those of diffusers, peft, kohya's scripts and LyCORIS; ComfyUI reads the same ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from easel.lora import layer_names

_LONGEST = 500  # characters of a key; the search takes time quadratic in them
BIAS = ".bias"  # the end of the name of a target that is a layer's bias


class LoraUnusable(Exception):
    """A file cannot be used; the text is the reason in a few words."""


@dataclass(frozen=True)
class Target:
    """A layer: a part of the pipeline, and the layer's name in it with underscores."""

    part: str
    name: str

    def __str__(self) -> str:
        return f"{self.part} {self.name}"[:100]


@dataclass(frozen=True)
class Key:
    """What a key means: its target, the layer's name as in the file, and the kind of tensor."""

    target: Target
    layer: str
    kind: str


# Prefixes, and the part of the pipeline that each means. The last one is the UNet without a prefix.
_PREFIXES = {
    r"lora_unet[._]": "unet",
    r"lora_te2[._]": "text_encoder_2",
    r"lora_te1?[._]": "text_encoder",
    r"lora_transformer[._]": "transformer",
    r"lycoris_": "unet",
    r"(?:model\.)?diffusion_model\.": "unet",  # ComfyUI and Stability AI
    r"(?:text_encoders\.)?clip_l\.transformer\.": "text_encoder",
    r"(?:text_encoders\.)?clip_g\.transformer\.": "text_encoder_2",
    r"unet\.": "unet",
    r"text_encoder_2\.": "text_encoder_2",
    r"text_encoder\.": "text_encoder",
    r"transformer\.": "transformer",
    r"(?=text_model\.)": "text_encoder",
    r"": "unet",
}
_PEFT = "base_model.model."
_LORA = r"[._]lora(?:_linear_layer)?"
# peft inserts the name of the adapter, mostly `default`, when it saves a model's whole state.
_ADAPTER = r"(?:\.[\w-]+){0,2}"
_KEY = re.compile(
    rf"(?P<name>.+?)(?:{_LORA}[._](?P<half>A|B|down|up|mid){_ADAPTER}(?<!\.bias)"
    rf"|[._]lora_(?P<vector>magnitude_vector){_ADAPTER}"
    rf"|\.(?P<lycoris>hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2){_ADAPTER}"
    r"|\.(?P<other>dora_scale|diff|diff_b|w_norm|b_norm)"
    rf"|(?:{_LORA})?\.(?P<alpha>alpha))"
)
_HALVES = {"A": "down", "B": "up"}
# Changes without factors: of a weight, and of a bias.
_WHOLE = {"diff": "", "w_norm": "", "diff_b": BIAS, "b_norm": BIAS}
# Keys of methods that are not supported.
_METHODS = {
    r"\.[ab][12]\.weight": "GLoRA",
    r"\.oft_|\.boft_": "OFT",
    r"\.on_input": "IA3",
    r"lora_embedding_|string_to_param|emb_params|bundle_emb": "an embedding",
    r"lora_(B|up)\b.*\.bias": "the bias of a LoRA",
    r"controlnet": "a ControlNet",
}


def read(key: str) -> Key:
    """Return what a tensor's key means.

    Raises:
        LoraUnusable: if it is of a method that is not supported.
    """
    match = _KEY.fullmatch(key) if len(key) <= _LONGEST else None
    if match is None:
        start = key[:_LONGEST]
        method = next((name for form, name in _METHODS.items() if re.search(form, start)), None)
        what = f" ({method}), which is not supported" if method else ", which is not part of a LoRA"
        raise LoraUnusable(f"it contains {key[:80]}{what}")
    part, layer = _layer(match["name"])
    half, other = match["half"], match["other"]
    if other in _WHOLE:
        name = layer_names.plain(layer) + _WHOLE[other]
        return Key(Target(part, name), layer, "diff")
    kind = _HALVES.get(half, half) or match["vector"] or match["lycoris"] or other or "alpha"
    return Key(Target(part, layer_names.plain(layer)), layer, kind)


def _layer(name: str) -> tuple[str, str]:
    """Return the part, and the layer's name as diffusers writes it today."""
    # torch adds these to the names of compiled and of distributed models.
    name = name.replace("_orig_mod.", "").removeprefix("module.").removeprefix(_PEFT)
    prefix = next(prefix for prefix in _PREFIXES if re.match(prefix, name))
    part = _PREFIXES[prefix]
    inner = re.sub(f"^{prefix}", "", name).removeprefix("module.").removeprefix(_PEFT)
    # The names that diffusers wrote in 2023: processors with layers of their own.
    if part.startswith("text_encoder"):
        inner = re.sub(r"(self_attn[._])to_(q|k|v|out)$", r"\1\2_proj", inner)
    inner = inner.replace(".processor.", ".")
    return part, inner + ".0" if inner.endswith("to_out") else inner
