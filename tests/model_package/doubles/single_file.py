"""A single-file checkpoint in the layout of Stable Diffusion 1, made of a stand-in model."""

from __future__ import annotations

import re

from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING
from safetensors.torch import load_file, save_file

_UNET = DIFFUSERS_TO_LDM_MAPPING["unet"]["layers"]
_VAE = DIFFUSERS_TO_LDM_MAPPING["vae"]
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def make_single_file(folder, file):
    """Write the weights of a stand-in of kind `sd` into one file."""
    weights = {
        **_renamed(folder / "unet", "model.diffusion_model.", _unet_name),
        **_renamed(folder / "vae", "first_stage_model.", _vae_name),
        **_renamed(folder / "text_encoder", "cond_stage_model.transformer.", lambda name: name),
    }
    save_file(weights, file, {"format": "pt"})
    return file


def _renamed(folder, prefix, rename):
    (path,) = folder.glob("*.safetensors")
    tensors = {prefix + rename(name): tensor for name, tensor in load_file(path).items()}
    # The older layout has the attention of the VAE as convolutions.
    return {
        name: tensor[:, :, None, None] if "first_stage" in name and _is_matrix(name, tensor)
        else tensor
        for name, tensor in tensors.items()
    }  # fmt: skip


def _is_matrix(name, tensor):
    return ".attn_" in name and tensor.ndim == 2


def _unet_name(name):
    """Return the name of a tensor of a UNet with one layer in each of two blocks."""
    if name in _UNET:
        return str(_UNET[name])
    for pattern, place in (
        (r"down_blocks\.(\d)\.resnets\.0", lambda block: f"input_blocks.{2 * block + 1}.0"),
        (r"down_blocks\.(\d)\.attentions\.0", lambda block: f"input_blocks.{2 * block + 1}.1"),
        (r"down_blocks\.0\.downsamplers\.0\.conv()", lambda _: "input_blocks.2.0.op"),
        (r"mid_block\.resnets\.(\d)", lambda number: f"middle_block.{2 * number}"),
        (r"mid_block\.attentions\.0()", lambda _: "middle_block.1"),
        (r"up_blocks\.0\.resnets\.(\d)", lambda layer: f"output_blocks.{layer}.0"),
        (r"up_blocks\.1\.resnets\.(\d)", lambda layer: f"output_blocks.{layer + 2}.0"),
        (r"up_blocks\.0\.attentions\.(\d)", lambda layer: f"output_blocks.{layer}.1"),
        (r"up_blocks\.0\.upsamplers\.0\.conv()", lambda _: "output_blocks.1.2.conv"),
    ):
        match = re.match(pattern + r"\.", name)
        if match:
            rest = name[match.end() :]
            return f"{place(int(match[1] or 0))}.{_inside(rest, _RESNET)}"
    raise ValueError(name)


def _vae_name(name):
    """Return the name of a tensor of a VAE with four blocks; the decoder's are counted upwards."""
    for new, old in _VAE.items():
        if name == new:
            return str(old)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block.", name)
    name = re.sub(
        r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name
    )
    name = re.sub(r"decoder\.up_blocks\.(\d)\.resnets\.", _upwards("block."), name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.upsamplers\.0", _upwards("upsample"), name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("conv_shortcut", "nin_shortcut")
    start, found, rest = name.partition("mid_block.attentions.0.")
    return f"{start}mid.attn_1.{_inside(rest, _ATTENTION)}" if found else name


def _upwards(rest):
    return lambda match: f"decoder.up.{3 - int(match[1])}.{rest}"


def _inside(rest, names):
    for new, old in names.items():
        if rest.startswith(f"{new}."):
            return old + rest[len(new) :]
    return rest
