"""The number type that a model computes in: half precision if the hardware supports it.

On a CPU, fp16 is several hundred times slower than fp32 (a 3x3 convolution of 320 channels at
64x64: 26.6 s instead of 0.05 s), so it is refused there. bfloat16 is about twice as fast as fp32 on
CPUs with instructions for it, and slower on others.
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


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the type to compute in.

    Args:
        name: fp16, bf16, fp32 or auto: fp16 on CUDA (a T4 has no bfloat16), on a CPU bf16 if it is
            fast, else fp32.
        device: the device that the model will run on.

    Raises:
        SettingInvalid: for fp16 on a CPU.
    """
    # An error instead of fp32 without a word: a GPU that CUDA does not see would go unnoticed.
    if name == "fp16" and device.type == "cpu":
        raise SettingInvalid(
            "EASEL_DTYPE is fp16, which takes hundreds of times longer on a CPU, and this machine "
            "has no CUDA device; unset it, or set EASEL_DTYPE=fp32"
        )
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if _cpu_computes_bfloat16() else torch.float32


@cache
def _cpu_computes_bfloat16() -> bool:
    """Whether the CPU has AVX-512 or AMX instructions for bfloat16; False except on Linux."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    # The file has one such line for each core, all with the same flags.
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not _CPU_FLAGS.isdisjoint(flags.split())
