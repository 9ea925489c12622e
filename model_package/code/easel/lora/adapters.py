"""The LoRA adapters that a request can name: apply them to the model and restore its weights.

Adapters are files in the model's folder `loras`, or in the folder that EASEL_LORAS names. Each file
is checked once, when the model is loaded. One that does not fit the model is not offered, and the
log has the reason.
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
from easel.lora.file import Change, LoraFile
from easel.lora.formulas import Formula, LowRank
from easel.lora.keys import BIAS, LoraUnusable, Target
from easel.lora.weights import Addition, Bias, Computed, Layer, TooLarge, Weights
from generation import RULES, InvalidField, Weighted

_KEPT_BYTES = 2**30  # of adapters' tensors: SDXL at rank 32 takes 93 MB in 16 bits
_PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2")

Layers = Mapping[str, nn.Module]
Tensors = dict[Target, Formula]


@dataclass(frozen=True)
class Adapter:
    """A file that fits the model, with the layers of each of its targets."""

    file: LoraFile
    layers: Mapping[Target, Sequence[Layer]]


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
        self._applied: list[tuple[str, float]] = []
        self._kept: OrderedDict[str, Tensors] = OrderedDict()
        named = list(files)
        # Only if there are files: building the tables walks through all modules of the model.
        tables = _tables(pipelines) if named else {}
        for name, path in named:
            self._check_file(name, path, tables)

    @property
    def names(self) -> list[str]:
        """The names that a request can use, sorted."""
        return sorted(self._adapters)

    def keep_originals(self) -> None:
        """Copy all weights that an adapter can change, before they are stored in 8 bits."""
        self._weights.keep(
            {
                layer
                for adapter in self._adapters.values()
                for layers in adapter.layers.values()
                for layer in layers
            }
        )

    def check(self, lora: str) -> None:
        """Refuse unknown adapters and those that do not fit the model.

        Raises:
            InvalidField: naming `lora`, with the available names.
        """
        for name, _ in _pairs(lora):
            if name in self._refused:
                raise InvalidField("lora", f"{name} cannot be used: {self._refused[name]}")
            if name not in self._adapters:
                names = ", ".join(self.names)[:1_000]  # an error is no place for a long list
                available = f"available: {names}" if names else "this model has no adapters"
                raise InvalidField("lora", f"unknown adapter {name}; {available}")

    @contextmanager
    def applied(self, lora: str) -> Iterator[None]:
        """A context in which these adapters are applied, and no others.

        They stay applied afterwards, so that the same adapters cost nothing in the next request. A
        failure restores the model's own weights.

        Args:
            lora: names with weights as in a request, after `check`.

        Raises:
            InvalidField: naming `lora`, if an adapter's values are not finite, or too large for the
                model together with its weight.
        """
        try:
            self._apply([(name, weight) for name, weight in _pairs(lora) if weight])
            yield
        except BaseException:  # an interrupted change must not stay in the weights, either
            self.restore()
            raise

    def restore(self) -> None:
        """Restore the weights that the model was loaded with."""
        self._weights.restore()
        self._applied = []

    def _apply(self, adapters: list[tuple[str, float]]) -> None:
        if adapters == self._applied:
            return
        additions: dict[Layer, list[Addition | Computed]] = {}
        for name, weight in adapters:
            tensors = self._tensors(name)
            layers = self._adapters[name].layers
            for target, formula in tensors.items():
                term = _term(formula, weight)
                for layer in layers[target]:
                    additions.setdefault(layer, []).append(term)
        try:
            self._weights.change(additions)
        except TooLarge as error:
            used = ", ".join(f"{name}:{weight:g}" for name, weight in adapters)
            reason = f"{used} gives numbers that are too large for this model; use smaller weights"
            raise InvalidField("lora", reason) from error
        self._applied = adapters

    def _tensors(self, name: str) -> Tensors:
        """Return an adapter's tensors, from the cache if they are there.

        They are read when they are needed first, so a fault in them is found only then.
        """
        # A request that waited while another one found the fault.
        self.check(name)
        if name not in self._kept:
            try:
                self._kept[name] = self._adapters[name].file.tensors()
            except LoraUnusable as error:
                self._refuse(name, self._adapters.pop(name).file.path, str(error))
                self.check(name)
        self._kept.move_to_end(name)
        # At least one is kept, however large, for the request that needs it.
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > _KEPT_BYTES:
            self._kept.popitem(last=False)
        return self._kept[name]

    def _check_file(self, name: str, path: Path, tables: Mapping[str, Sequence[Layers]]) -> None:
        try:
            file = LoraFile(path)
            self._adapters[name] = Adapter(file, _fit(file.changes, tables))
        except LoraUnusable as error:
            self._refuse(name, path, str(error))
        except Exception as error:  # noqa: BLE001 - one file's fault must not end the model
            self._refuse(name, path, f"it cannot be read ({type(error).__name__})")

    def _refuse(self, name: str, path: Path, reason: str) -> None:
        self._refused[name] = reason
        log.event("lora_unusable", lora=name, path=path, error=reason)


def _term(formula: Formula, weight: float) -> Addition | Computed:
    if isinstance(formula, LowRank):
        return Addition(formula.down, formula.up, weight)
    return Computed(formula, weight)


def _pairs(lora: str) -> list[tuple[str, float]]:
    rule = RULES["lora"]
    return rule.pairs(lora) if isinstance(rule, Weighted) else []


def _tables(pipelines: Sequence[Any]) -> dict[str, list[Layers]]:
    """Return each part's layers by name; a base and its refiner have one UNet each."""
    tables: dict[str, list[Layers]] = {}
    seen: set[int] = set()
    for pipeline in pipelines:
        for name in _PARTS:
            part = getattr(pipeline, name, None)
            # A refiner shares parts with its base, which must be changed once only.
            if isinstance(part, nn.Module) and id(part) not in seen:
                seen.add(id(part))
                tables.setdefault(name, []).append(layer_names.layers(part))
    return tables


def _fit(
    changes: Mapping[Target, Change], tables: Mapping[str, Sequence[Layers]]
) -> dict[Target, list[Layer]]:
    """Return the layers to change: of base, refiner or both, if the file fits them entirely."""
    layers: dict[Target, list[Layer]] = {target: [] for target in changes}
    for part in {target.part for target in changes}:
        of_part = {target: changes[target] for target in changes if target.part == part}
        candidates = tables.get(part, ())
        misfits = [_misfits(of_part, table) for table in candidates]
        fitting = [table for table, names in zip(candidates, misfits, strict=True) if not names]
        # A file says "unet" and not which one, so it changes each UNet that it fits.
        if not fitting:
            where = f"{part} {misfits[0][0][:80]}" if misfits else f"it has no {part}"
            raise LoraUnusable(f"it does not fit this model: {where}")
        for table in fitting:
            found = {target: _find(table, target.name) for target in of_part}
            if len(set(found.values())) < len(found):
                raise LoraUnusable(f"it has a layer of {part} twice, under two names")
            for target, layer in found.items():
                if layer is not None:
                    layers[target].append(layer)
    return layers


def _find(table: Layers, name: str) -> Layer | None:
    if not name.endswith(BIAS):
        return table.get(name)
    layer = table.get(name.removesuffix(BIAS))
    return None if layer is None else Bias(layer)


def _misfits(changes: Mapping[Target, Change], table: Layers) -> list[str]:
    """Return the names of the layers that are missing in the table or have another size."""
    return [
        target.name
        for target, change in changes.items()
        if not _matches(change, _find(table, target.name))
    ]


def _matches(change: Change, layer: Layer | None) -> bool:
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, torch.Tensor):
        return False
    # Compared by size: a convolution's matrix in the file has the kernel flattened.
    if weight.shape[0] != change.rows or weight.numel() != change.values:
        return False
    return change.channels is None or change.channels == weight.shape[1]


def _size(tensors: Tensors) -> int:
    return sum(tensor.nbytes for formula in tensors.values() for tensor in formula.tensors)
