"""What optimum-neuron uses of torch_neuronx 2.8, on the CPU and strict about what a device refuses.

"Compiling" traces a model with torch, so pictures are those of the model itself: no number is cast
to bf16. What holds on a device holds here: a compiled model takes tensors of exactly the shapes
that it was compiled with, `DataParallel` gives each core an equal part of the batch, and the
compiler takes the options that it documents. Signatures follow
https://awsdocs-neuron.readthedocs-hosted.com/en/latest/frameworks/torch/torch-neuronx/api-reference-guide/inference/index.html
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from typing import Any, ClassVar

import torch

from . import experimental as experimental

# Options of `neuronx-cc compile` and the values that each takes; None for a switch.
_OPTIONS: dict[str, set[str] | None] = {
    "--auto-cast": {"none", "matmult", "all"},
    "--auto-cast-type": {"bf16", "fp16", "tf32", "fp8_e4m3"},
    "--enable-fast-loading-neuron-binaries": None,
    "--model-type": {"generic", "transformer", "unet-inference"},
    "--optlevel": {"1", "2", "3"},
    "--target": {"inf2", "trn1", "trn1n", "trn2"},
}

# What was compiled in this process, in its order: options, and the shapes of the inputs.
compiled: list[tuple[str, list[list[int]]]] = []


class _Strict(torch.nn.Module):
    """A model that takes tensors of the example's shapes and types only, also when it is traced.

    A trace keeps no Python checks. So each input passes operations with constant sizes: `reshape`
    fails for another number of values, `expand` for the same number in another shape, and `lerp`
    for another floating type.
    """

    def __init__(self, model: Any, examples: tuple[torch.Tensor, ...]) -> None:
        super().__init__()
        self._model = model
        self._shapes = [list(example.shape) for example in examples]
        self._types = [example.dtype for example in examples]

    def forward(self, *inputs: torch.Tensor) -> Any:
        assert len(inputs) == len(self._shapes)
        triples = zip(inputs, self._shapes, self._types, strict=True)
        return self._model(*(_checked(*triple) for triple in triples))


def _checked(tensor: torch.Tensor, shape: list[int], kind: torch.dtype) -> torch.Tensor:
    """Return the same values, by operations that fail for another shape or floating type."""
    same = torch.maximum(tensor.reshape(math.prod(shape)).view(shape), tensor.expand(shape))
    return same.lerp(torch.zeros((), dtype=kind), 0.0) if kind.is_floating_point else same


def trace(
    func: Callable[..., Any] | torch.nn.Module,
    example_inputs: Any,
    *,
    input_output_aliases: dict[Any, Any] | None = None,
    compiler_workdir: str | None = None,
    compiler_args: list[str] | str | None = None,
    partitioner_config: Any = None,
    inline_weights_to_neff: bool = True,
    cpu_backend: bool = False,
) -> torch.jit.ScriptModule:
    """Compile; `cpu_backend` is required where there is no device."""
    assert cpu_backend, "there is no Neuron device to load the compiled model to"
    assert not input_output_aliases
    options = compiler_args if isinstance(compiler_args, str) else " ".join(compiler_args or [])
    _check_options(options)
    examples = tuple(example_inputs)
    compiled.append((options, [list(example.shape) for example in examples]))
    with torch.no_grad():
        return torch.jit.trace(_Strict(func, examples), examples, strict=False, check_trace=False)


def _check_options(options: str) -> None:
    words = shlex.split(options.replace("=", " "))
    while words:
        option = words.pop(0)
        assert option in _OPTIONS, f"neuronx-cc has no option {option}"
        values = _OPTIONS[option]
        assert values is None or words.pop(0) in values, f"{option} has no such value"
    assert "--target" in options


class DataParallel(torch.nn.Module):
    """A compiled model on several cores, each of which computes an equal part of the batch."""

    # The number of cores that each call used, for tests.
    used: ClassVar[list[int]] = []

    def __init__(
        self,
        model: torch.jit.ScriptModule,
        device_ids: list[int] | None = None,
        dim: int = 0,
        set_dynamic_batching: bool = True,
    ) -> None:
        super().__init__()
        assert dim == 0
        assert not set_dynamic_batching, "every compiled part has a fixed batch"
        self._model = model
        self._cores = device_ids or [0, 1]

    def forward(self, *inputs: torch.Tensor) -> Any:
        cores = min(len(self._cores), len(inputs[0]))
        DataParallel.used.append(cores)
        parts = [tensor.chunk(cores) for tensor in inputs]
        return _joined([self._model(*part) for part in zip(*parts, strict=True)])


def _joined(outputs: list[Any]) -> Any:
    if isinstance(outputs[0], torch.Tensor):
        return torch.cat(outputs)
    if isinstance(outputs[0], dict):
        return {name: _joined([output[name] for output in outputs]) for name in outputs[0]}
    return tuple(_joined(list(column)) for column in zip(*outputs, strict=True))


def async_load(trace: torch.jit.ScriptModule, enable_async_load: bool = True) -> None:
    """Let the model load to the device in the background."""
    assert isinstance(trace, torch.jit.ScriptModule)


def lazy_load(trace: torch.jit.ScriptModule, enable_lazy_load: bool = True) -> None:
    """Let the model load to the device when it is called first."""
    assert isinstance(trace, torch.jit.ScriptModule)


def move_trace_to_device(trace: torch.jit.ScriptModule, device_id: int) -> None:
    """Load weights that are not in the compiled program."""
    raise AssertionError("the weights of every part are in its compiled program")
