"""The LoRA adapters that a request may name, and putting them on and off the model.

Adapters are files in a folder `loras` beside the model, or in the folder that EASEL_LORAS names.
Each is looked at once, when the model is loaded; one that does not fit is not offered, and the log
says why.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from easel import log
from easel.lora import layer_names
from easel.lora.file import Change, LoraFile, LoraUnusable, Target
from easel.lora.weights import Addition, Weights
from generation import RULES, InvalidField, Weighted

_KEPT_BYTES = 2**30  # of adapters' tensors: SDXL at rank 32 takes 93 MB in 16 bits
_PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2")

Layers = Mapping[str, nn.Module]
Tensors = dict[Target, tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Adapter:
    """A file that fits, with the layers that each of its targets stands for."""

    file: LoraFile
    layers: Mapping[Target, Sequence[nn.Module]]


class Loras:
    """The adapters of one model, by name; not for use by two threads at once.

    Args:
        files: names and files.
        pipelines: the base, and the refiner if there is one.
    """

    def __init__(self, files: Iterable[tuple[str, Path]], pipelines: Sequence[Any]) -> None:
        self._adapters: dict[str, Adapter] = {}
        self._refused: dict[str, str] = {}
        self._weights = Weights()
        self._worn: list[tuple[str, float]] = []
        self._kept: OrderedDict[str, Tensors] = OrderedDict()
        found = list(files)
        tables = _tables(pipelines) if found else {}
        for name, path in found:
            self._look_at(name, path, tables)

    @property
    def names(self) -> list[str]:
        """The names that a request may use, sorted."""
        return sorted(self._adapters)

    def keep_originals(self) -> None:
        """Remember all weights that an adapter may change, before they are stored in 8 bits."""
        layers = [adapter.layers.values() for adapter in self._adapters.values()]
        self._weights.keep({layer for each in layers for some in each for layer in some})

    def check(self, lora: str) -> None:
        """Refuse names that there are not.

        Raises:
            InvalidField: naming `lora`, with the names that there are.
        """
        for name, _ in _pairs(lora):
            if name in self._refused:
                raise InvalidField("lora", f"{name} cannot be used: {self._refused[name]}")
            if name not in self._adapters:
                known = ", ".join(self.names)[:1_000]
                there = f"there are {known}" if known else "this model has none"
                raise InvalidField("lora", f"{name} is not there; {there}")

    @contextmanager
    def worn(self, lora: str) -> Iterator[None]:
        """Paint with these adapters and no others.

        They stay on until others are wanted, so that the same ones cost nothing the next time; a
        failure takes all of them off.

        Args:
            lora: names with weights that `check` passed, in the contract's spelling.
        """
        try:
            self._put_on([(name, weight) for name, weight in _pairs(lora) if weight])
            yield
        except BaseException:
            self.take_off()
            raise

    def take_off(self) -> None:
        """Give the model the weights back that it was loaded with."""
        self._weights.restore()
        self._worn = []

    def _put_on(self, wanted: list[tuple[str, float]]) -> None:
        if wanted == self._worn:
            return
        additions: dict[nn.Module, list[Addition]] = {}
        for name, weight in wanted:
            layers = self._adapters[name].layers
            for target, (down, up) in self._tensors(name).items():
                for layer in layers[target]:
                    additions.setdefault(layer, []).append(Addition(down, up, weight))
        self._weights.change(additions)
        self._worn = wanted

    def _tensors(self, name: str) -> Tensors:
        """Return an adapter's tensors, from memory if it was used lately."""
        if name not in self._kept:
            self._kept[name] = self._adapters[name].file.tensors()
        self._kept.move_to_end(name)
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > _KEPT_BYTES:
            self._kept.popitem(last=False)
        return self._kept[name]

    def _look_at(self, name: str, path: Path, tables: Mapping[str, Sequence[Layers]]) -> None:
        try:
            file = LoraFile(path)
            self._adapters[name] = Adapter(file, _fit(file.changes, tables))
        except LoraUnusable as error:
            self._refused[name] = str(error)
            log.event("lora_unusable", lora=name, path=path, error=str(error))


def _pairs(lora: str) -> list[tuple[str, float]]:
    rule = RULES["lora"]
    return rule.pairs(lora) if isinstance(rule, Weighted) else []


def _tables(pipelines: Sequence[Any]) -> dict[str, list[Layers]]:
    """Return each part's layers by name; base and refiner have a UNet each, the rest is shared."""
    tables: dict[str, list[Layers]] = {}
    seen: set[int] = set()
    for pipeline in pipelines:
        for name in _PARTS:
            part = getattr(pipeline, name, None)
            if isinstance(part, nn.Module) and id(part) not in seen:
                seen.add(id(part))
                tables.setdefault(name, []).append(layer_names.layers(part))
    return tables


def _fit(
    changes: Mapping[Target, Change], tables: Mapping[str, Sequence[Layers]]
) -> dict[Target, list[nn.Module]]:
    """Return the layers to change: of base or refiner or both, whichever the file fits entirely."""
    layers: dict[Target, list[nn.Module]] = {target: [] for target in changes}
    for part in {target.part for target in changes}:
        wanted = {target: changes[target] for target in changes if target.part == part}
        misfits = [_misfits(wanted, table) for table in tables.get(part, ())]
        fitting = [
            table for table, each in zip(tables.get(part, ()), misfits, strict=True) if not each
        ]
        if not fitting:
            where = f"{part} {misfits[0][0][:80]}" if misfits else f"it has no {part}"
            raise LoraUnusable(f"it does not fit this model: {where}")
        for target in wanted:
            layers[target] = [table[target.name] for table in fitting]
    return layers


def _misfits(wanted: Mapping[Target, Change], table: Layers) -> list[str]:
    """Return the names of the layers that the table has not, or in another size."""
    return [
        target.name
        for target, change in wanted.items()
        if not _matches(change, table.get(target.name))
    ]


def _matches(change: Change, layer: nn.Module | None) -> bool:
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, torch.Tensor):
        return False
    return weight.shape[0] == change.rows and weight.numel() == change.values


def _size(tensors: Tensors) -> int:
    return sum(each.numel() * each.element_size() for pair in tensors.values() for each in pair)
