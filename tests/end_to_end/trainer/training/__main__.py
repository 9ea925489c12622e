"""A trainer that learns nothing, in a moment: what a training job leaves, without the training.

A job named `slow` goes on until it is stopped, and one named `broken` fails.
"""

import json
import os
import signal
import struct
import sys
import time
import zlib
from pathlib import Path

HOME = Path(os.environ["EASEL_TRAINING_HOME"])
STEPS = 20


def png(colour):
    """Return a picture of 64 x 64 pixels of one colour."""
    rows = (b"\0" + bytes(colour) * 64) * 64
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def adapter():
    """Return a LoRA file with one layer, in kohya's names."""
    shapes = {"alpha": [], "lora_down.weight": [1, 1], "lora_up.weight": [1, 1]}
    header = json.dumps(
        {
            f"lora_unet_a.{name}": {
                "dtype": "F16",
                "shape": shape,
                "data_offsets": [2 * n, 2 * n + 2],
            }
            for n, (name, shape) in enumerate(shapes.items())
        }
    ).encode()
    return struct.pack("<Q", len(header)) + header + struct.pack("<e", 1.0) * len(shapes)


def sample(step):
    folder = HOME / "checkpoints" / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"step-{step:05}.png").write_bytes(png((180, 60 + 5 * step, 40)))


def fail(sentence):
    (HOME / "output" / "failure").write_text(sentence)
    sys.exit(1)


job = json.loads((HOME / "input/data/job/job.json").read_text())
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
sample(0)
lines = [
    {"step": step, "loss": 1 / step, "rate": 1e-4, "seconds": 0.5, "cost": 0.001 * step}
    for step in range(1, STEPS + 1)
]
lines.append({"step": STEPS, "validation": 0.1})
text = "".join(f"{json.dumps(line)}\n" for line in lines)
(HOME / "checkpoints" / "progress.jsonl").write_text(text)
if job["name"] == "slow":
    time.sleep(600)
if job["name"] == "broken":
    fail("<b>0003.png</b> cannot be decoded.")
sample(STEPS)
(HOME / "model" / f"{job['name']}.safetensors").write_bytes(adapter())
