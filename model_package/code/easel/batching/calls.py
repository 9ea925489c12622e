"""Calls of a model's part that several runs share, as one call with a fixed number of rows.

A row of a tensor is one image, or one of the two that guidance needs. A denoiser computes each row
by itself, and with a fixed number of rows by the same kernels: so a row's bits depend neither on
the other rows nor on their number. Missing rows are copies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from easel.batching.coroutine import Suspend


@dataclass(frozen=True)
class Call:
    """A call that a run is suspended in.

    Attributes:
        function: a part of the model.
        part: the name of the part, as in a pipeline.
        key: equal for calls that can be one; None for a call that cannot be shared.
        rows: of each of its tensors.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    part: str
    key: Hashable = None
    rows: int = 1

    def run(self) -> Any:
        """Return the result of this call alone."""
        return self.function(*self.args, **self.kwargs)


class StandIn:
    """Stands for a part of the model in one run's pipelines: a call of it suspends the run.

    Args:
        part: what it stands for, and is in everything but its calls.
        suspend: of the run.
        name: of the part.
        shared: whether the calls may be shared with other runs.
    """

    def __init__(self, part: Any, suspend: Suspend, *, name: str, shared: bool) -> None:
        self._part = part
        self._suspend = suspend
        self._name = name
        self._shared = shared
        self._contents: dict[int, tuple[torch.Tensor, str]] = {}
        if name == "vae":
            self.decode = self._calling(part.decode)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._calling(self._part)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    def _calling(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            rows = _rows([*args, *kwargs.values()])
            key = self._key(args, kwargs, rows) if self._shared and rows else None
            return self._suspend(Call(function, args, kwargs, self._name, key, rows))

        return call

    def _key(self, args: Any, kwargs: Any, rows: int) -> Hashable:
        """Return what must be equal in two calls that become one; None if it cannot be said."""
        try:
            return (id(self._part), rows, self._describe((args, kwargs), rows))
        except TypeError:
            return None

    def _describe(self, value: Any, rows: int) -> Hashable:
        if isinstance(value, torch.Tensor):
            # What is the same for all rows, such as FLUX's positions, must have equal values.
            own = _has_rows(value, rows)
            return _kind(value) if own else (_kind(value), self._content(value))
        if isinstance(value, dict):
            return tuple((name, self._describe(item, rows)) for name, item in value.items())
        if isinstance(value, tuple):
            return tuple(self._describe(item, rows) for item in value)
        if isinstance(value, list):
            # Some transformers take each image as an item of a list; their sizes must be equal.
            own = _has_rows(value, rows)
            return tuple(
                _kind(item)
                if own and isinstance(item, torch.Tensor)
                else self._describe(item, rows if own else 0)
                for item in value
            )
        if value is None or isinstance(value, bool | int | float | str):
            return (type(value).__name__, value)
        raise TypeError(f"nothing is known about {type(value).__name__}")

    def _content(self, value: torch.Tensor) -> str:
        # Kept, because a run passes the same tensors at each step.
        if id(value) not in self._contents:
            content = value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
            self._contents[id(value)] = value, hashlib.sha256(content).hexdigest()
        return self._contents[id(value)][1]


def run_together(calls: Sequence[Call], size: int) -> list[Any]:
    """Return the results of calls with equal keys, from one call with the rows of `size` of them.

    Args:
        calls: at least one, at most `size`.
        size: of the batch.
    """
    rows = calls[0].rows
    args, kwargs = _join([(call.args, call.kwargs) for call in calls], rows, size)
    result = calls[0].function(*args, **kwargs)
    return [
        _part(result, slice(place * rows, (place + 1) * rows), rows * size)
        for place in range(len(calls))
    ]


def _join(values: Sequence[Any], rows: int, size: int) -> Any:
    """Return one value with the rows of several; missing ones are copies of the first."""
    first = values[0]
    if isinstance(first, dict):
        return {name: _join([value[name] for value in values], rows, size) for name in first}
    if isinstance(first, tuple):
        return tuple(_join(items, rows, size) for items in zip(*values, strict=True))
    if not _has_rows(first, rows):
        return first
    padded = [*values, *[first] * (size - len(values))]
    if isinstance(first, list):
        return [item for value in padded for item in value]
    # A single timestep is that of all its rows.
    return torch.cat([value if value.ndim else value.expand(rows) for value in padded])


def _part(result: Any, own: slice, rows: int) -> Any:
    """Return some rows of a result; the others must not stay in memory with them."""
    if isinstance(result, torch.Tensor):
        return result[own].clone() if _has_rows(result, rows) else result
    if isinstance(result, list):
        return result[own] if len(result) == rows else result
    if isinstance(result, dict):
        return type(result)(**{name: _part(value, own, rows) for name, value in result.items()})
    return tuple(_part(item, own, rows) for item in result) if type(result) is tuple else result


def _has_rows(value: Any, rows: int) -> bool:
    """Whether a value has a part for each row, or is a number that each row may have its own of."""
    if isinstance(value, torch.Tensor):
        return rows > 0 and (value.ndim == 0 or value.shape[0] == rows)
    return isinstance(value, list) and len(value) == rows > 0


def _rows(values: Sequence[Any]) -> int:
    """Return the rows of the first value that has some, which is the latents; 0 without one."""
    sizes = (
        len(value)
        for value in values
        if isinstance(value, list) or (isinstance(value, torch.Tensor) and value.ndim)
    )
    return next(sizes, 0)


def _kind(tensor: torch.Tensor) -> Hashable:
    return tuple(tensor.shape), tensor.dtype, tensor.device
