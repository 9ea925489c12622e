"""Adapters as training jobs write them, small ones."""

import json
import math
import struct

LAYER = "lora_unet_mid_block_attentions_0_proj_in"


def tensors(dtype="F16", **changes):
    wide = {"F16": "<e", "F32": "<f"}[dtype]

    def numbers(*shape):
        return dtype, list(shape), struct.pack(wide, 0.5) * math.prod(shape)

    made = {
        f"{LAYER}.lora_down.weight": numbers(4, 8),
        f"{LAYER}.lora_up.weight": numbers(8, 4),
        f"{LAYER}.alpha": ("F32", [], struct.pack("<f", 4)),
    }
    return made | changes


def written(content, metadata=None):
    header, body = {"__metadata__": metadata or {"ss_network_dim": "4"}}, b""
    for key, (dtype, shape, data) in content.items():
        place = [len(body), len(body) + len(data)]
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": place}
        body += data
    return framed(header, body)


def framed(header, body=b""):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body
