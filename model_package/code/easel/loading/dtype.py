"""Which numbers a model computes in: half precision where the machine is made for it.

16-bit floats are several hundred times slower than 32-bit ones on a CPU (a 3x3 convolution of 320
channels at 64x64: 26.6 s against 0.05 s), so they are refused there. bfloat16 is about twice as
fast as 32 bits on CPUs that have instructions for it, and slower on others.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from easel.errors import SettingInvalid

_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def choose_device() -> torch.device:
    """Return the GPU if CUDA sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Return the type to compute in.

    Args:
        wanted: fp16, bf16, fp32, or auto for fp16 on CUDA (a T4 has no bfloat16), and on a CPU
            bf16 where it is fast, else fp32.
        device: where the model will run.

    Raises:
        SettingInvalid: for fp16 on a CPU.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise SettingInvalid(
            "EASEL_DTYPE is fp16, which takes hundreds of times longer on a CPU, and this machine "
            "has no CUDA device; leave it out, or set EASEL_DTYPE=fp32"
        )
    if wanted != "auto":
        return _DTYPES[wanted]
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if _cpu_computes_bfloat16() else torch.float32


@cache
def _cpu_computes_bfloat16() -> bool:
    """Whether the CPU has AVX-512 or AMX instructions for bfloat16; only Linux tells."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not _CPU_FLAGS.isdisjoint(flags.split())
