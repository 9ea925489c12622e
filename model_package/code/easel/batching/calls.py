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
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

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
            rows = _rows(args, kwargs)
            key = self._key(args, kwargs, rows) if self._shared and rows else None
            return self._suspend(Call(function, args, kwargs, self._name, key, rows or 1))

        return call

    def _key(self, args: Any, kwargs: Any, rows: int) -> Hashable:
        """Return what must be equal in two calls that become one; None if it cannot be said."""
        if not _is_flat((*args, kwargs)):
            return None
        leaves, shape = tree_flatten((args, kwargs))
        described = tuple(self._describe(leaf, rows) for leaf in leaves)
        return (id(self._part), rows, str(shape), described)

    def _describe(self, leaf: Any, rows: int) -> Hashable:
        if not isinstance(leaf, torch.Tensor):
            return (type(leaf).__name__, leaf)
        described = (tuple(leaf.shape), leaf.dtype, leaf.device)
        if leaf.ndim == 0 or leaf.shape[0] == rows:
            return described
        # The same for all rows, such as FLUX's positions; a run passes the same ones at each step.
        if id(leaf) not in self._contents:
            content = leaf.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
            self._contents[id(leaf)] = leaf, hashlib.sha256(content).hexdigest()
        return (*described, self._contents[id(leaf)][1])


def run_together(calls: Sequence[Call], size: int) -> list[Any]:
    """Return the results of calls with equal keys, from one call with the rows of `size` of them.

    Args:
        calls: at least one, at most `size`.
        size: of the batch.
    """
    rows = calls[0].rows
    flattened = [tree_flatten((call.args, call.kwargs)) for call in calls]
    leaves = zip(*(leaves for leaves, _ in flattened), strict=True)
    joined = [_join(column, rows, size) for column in leaves]
    args, kwargs = tree_unflatten(joined, flattened[0][1])
    result = calls[0].function(*args, **kwargs)
    # Copied, so that a row is not kept in memory by its neighbours.
    return [
        tree_map(lambda leaf, own=slice(place * rows, (place + 1) * rows): _part(leaf, own), result)
        for place in range(len(calls))
    ]


def _join(column: Sequence[Any], rows: int, size: int) -> Any:
    first = column[0]
    if not isinstance(first, torch.Tensor) or (first.ndim and first.shape[0] != rows):
        return first
    if first.ndim == 0:  # a timestep: each row gets its own
        column = [leaf.expand(rows) for leaf in column]
    return torch.cat([*column, *[column[0]] * (size - len(column))])


def _part(leaf: Any, own: slice) -> Any:
    return leaf[own].clone() if isinstance(leaf, torch.Tensor) else leaf


def _rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """Return the rows of the first tensor, which is the latents; None without one."""
    tensors = [leaf for leaf in (*args, *kwargs.values()) if isinstance(leaf, torch.Tensor)]
    return int(tensors[0].shape[0]) if tensors and tensors[0].ndim else None


def _is_flat(value: Any) -> bool:
    """Whether there are no lists, whose items may be rows, and nothing that cannot be compared."""
    if isinstance(value, dict):
        return all(_is_flat(item) for item in value.values())
    if isinstance(value, tuple):
        return all(not isinstance(item, tuple) and _is_flat(item) for item in value)
    return value is None or isinstance(value, torch.Tensor | bool | int | float | str)
