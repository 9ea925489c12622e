"""Where a compiled model is loaded to."""

from __future__ import annotations

import torch


def set_neuron_cores(trace: torch.jit.ScriptModule, start_nc: int, nc_count: int) -> None:
    """Choose cores; an Inferentia2 chip has two."""
    assert isinstance(trace, torch.jit.ScriptModule)
    assert start_nc >= 0
    assert 1 <= nc_count <= 2 - start_nc
