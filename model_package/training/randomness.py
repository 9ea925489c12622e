"""Random numbers that are a function of the seed, the step and the purpose.

There is no state, so a run that was killed and resumed draws the same numbers as one that was not.
"""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, step: int, purpose: str) -> torch.Generator:
    """Return a generator for one purpose in one step.

    It is on the CPU: the generators of GPUs differ from it and from each other.
    """
    digest = hashlib.sha256(f"{seed}/{step}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
