"""A fake GPU: its tensors are computed on the CPU, and waits for the GPU are counted.

It uses PyTorch's device "meta", which needs no hardware; each of its tensors wraps a real one.
Operations for which a CPU would wait for a GPU are counted by name: reading a value, or copying
from one memory to the other. Mixing the two memories fails, as with CUDA.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
# They return something whose size depends on values, or a value.
_READING = {"_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero", "unique"}
_COPYING = {"_to_copy", "copy_"}
_MIXING = {"_to_copy", "copy_", "index", "index_put_"}


class Remote(torch.Tensor):
    """A tensor on the fake GPU."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=DEVICE
        )

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return f"Remote({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError("used outside of FakeGpu")


class FakeGpu(TorchDispatchMode):
    """Within it the device is there.

    Attributes:
        waits: how often the CPU would have waited, by operation.
    """

    def __init__(self):
        super().__init__()
        self.waits = Counter()
        self._literals = _Literals()

    def __enter__(self):
        self._literals.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._literals.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = function.__name__.partition(".")[0]
        tensors = [value for value in tree_flatten((args, kwargs))[0] if _is_tensor(value)]
        remote = any(isinstance(value, Remote) for value in tensors)
        self._check(name, tensors, remote)
        requested = kwargs.get("device")
        to_remote = remote if requested is None else torch.device(requested) == DEVICE
        if requested is not None:
            kwargs["device"] = torch.device("cpu")
        if remote and name in _READING:
            self.waits[name] += 1
        if name in _COPYING and _crosses(name, args, to_remote):
            self.waits[name] += 1
        result = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if function._schema.is_mutable and result is _inner(args[0] if args else None):
            return args[0]
        return tree_map(lambda value: _remote(value) if to_remote else value, result)

    def _check(self, name, tensors, remote):
        local = [value for value in tensors if not isinstance(value, Remote) and value.ndim]
        if remote and local and name not in _MIXING:
            raise RuntimeError(f"{name}: tensors on the GPU and of {local[0].shape} on the CPU")


class _Literals(TorchFunctionMode):
    """Makes tensors of Python's numbers on the CPU first: on "meta" their values would be lost."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return function(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        return function(*args, **kwargs)


def move(*modules):
    """Put modules' parameters and buffers there."""
    with FakeGpu():
        for module in (part for whole in modules for part in whole.modules()):
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    moved = Remote(parameter.detach())
                    module._parameters[name] = nn.Parameter(moved, requires_grad=False)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = Remote(buffer)


def _is_tensor(value):
    return isinstance(value, torch.Tensor)


def _inner(value):
    return value.inner if isinstance(value, Remote) else value


def _remote(value):
    return Remote(value) if _is_tensor(value) and not isinstance(value, Remote) else value


def _crosses(name, args, to_remote):
    if name == "_to_copy":
        return isinstance(args[0], Remote) != to_remote
    return isinstance(args[0], Remote) != isinstance(args[1], Remote)
