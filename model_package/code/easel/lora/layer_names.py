"""The names of a model's layers in the tools that train LoRAs.

A file names a layer as diffusers does, with dots or, from kohya's scripts, with underscores. Or it
uses the names of Stability's own code (`input_blocks_4_1_...`), as kohya's scripts do for SDXL.
With underscores instead of dots, one table maps all of these names to the layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

# Layers of a ResNet block: diffusers' names, Stability's names.
_RESNET = {
    "conv1": "in_layers_2",
    "conv2": "out_layers_3",
    "time_emb_proj": "emb_layers_1",
    "conv_shortcut": "skip_connection",
    "norm1": "in_layers_0",
    "norm2": "out_layers_0",
}
# The layers that an adapter can change; only LyCORIS changes those that normalise.
_KINDS = nn.Linear | nn.Conv2d | nn.GroupNorm | nn.LayerNorm
# Layers outside of the numbered blocks.
_OUTSIDE = {
    "conv_in": "input_blocks_0_0",
    "time_embedding_linear_1": "time_embed_0",
    "time_embedding_linear_2": "time_embed_2",
    "add_embedding_linear_1": "label_emb_0_0",
    "add_embedding_linear_2": "label_emb_0_2",
    "conv_out": "out_2",
    "conv_norm_out": "out_0",
}
# Stability numbers the parts of the middle block in their order.
_MIDDLE = {"resnets_0": "0", "attentions_0": "1", "resnets_1": "2"}
_BLOCK = re.compile(
    r"(down|up)_blocks_(\d+)_(resnets|attentions|downsamplers|upsamplers)_(\d+)_(.+)"
)


def plain(name: str) -> str:
    """Return a layer's name as it is in the table.

    Without `text_model`, which transformers 5 dropped from one of CLIP's two classes.
    """
    return name.replace(".", "_").removeprefix("text_model_")


def layers(part: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that a LoRA can change, under each of their names."""
    table: dict[str, nn.Module] = {}
    for name, layer in part.named_modules():
        if isinstance(layer, _KINDS):
            table[plain(name)] = layer
    config: Any = getattr(part, "config", None)
    # Only UNets have Stability's names.
    if hasattr(part, "down_blocks") and hasattr(part, "up_blocks"):
        blocks: Any = part.up_blocks
        attends = [hasattr(block, "attentions") for block in blocks]
        for name in list(table):
            for other in _stability_names(name, config.layers_per_block, attends):
                table[other] = table[name]
    return table


def _stability_names(name: str, per_block: Any, attends: list[bool]) -> Iterator[str]:
    """Yield the layer's name in Stability's UNets, if it has one."""
    if name in _OUTSIDE:
        yield _OUTSIDE[name]
    for start, place in _MIDDLE.items():
        if name.startswith(f"mid_block_{start}_"):
            yield f"middle_block_{place}_{_inner(name.removeprefix(f'mid_block_{start}_'))}"
    match = _BLOCK.fullmatch(name)
    if match is not None and isinstance(per_block, int):
        side, block, kind, place, rest = match.groups()
        yield _block_name(side, int(block), kind, int(place), rest, per_block, attends)


def _block_name(
    side: str, block: int, kind: str, place: int, rest: str, per_block: int, attends: list[bool]
) -> str:
    """Stability's code numbers the layers of one side across blocks, each block's sampler last."""
    # Each block has a sampler after its layers.
    first = block * (per_block + 1)
    if kind == "downsamplers":
        return f"input_blocks_{first + per_block + 1}_0_op"
    if kind == "upsamplers":
        return f"output_blocks_{first + per_block}_{2 if attends[block] else 1}_{rest}"
    within = f"{0 if kind == 'resnets' else 1}_{_inner(rest)}"
    row = (
        f"input_blocks_{1 + first + place}" if side == "down" else f"output_blocks_{first + place}"
    )
    return f"{row}_{within}"


def _inner(rest: str) -> str:
    return _RESNET.get(rest, rest)
