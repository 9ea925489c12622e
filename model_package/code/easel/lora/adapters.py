"""The LoRA adapters that a request can name: apply them to the model and restore its weights.

Adapters are files in the model's folder `loras`, or in the folder that EASEL_LORAS names. Each file
is checked once, when the model is loaded. One that does not fit the model is not offered, and the
log has the reason. Others are published while the model runs, where EASEL_LORAS_FROM says
(`published.py`).
"""

from __future__ import annotations

import math
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
from easel.lora.places import Place
from easel.lora.published import Published
from easel.lora.weights import Addition, Bias, Computed, Layer, TooLarge, Weights
from generation import RULES, InvalidField, Weighted

_KEPT_BYTES = 2**30  # of adapters' tensors: SDXL at rank 32 takes 93 MB in 16 bits
_PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2")
_MERGED = "merged"  # the name of an adapter that has no other

Layers = Mapping[str, nn.Module]
Tensors = dict[Target, Formula]


@dataclass(frozen=True, eq=False)
class Adapter:
    """A file that fits the model, with the layers of each of its targets.

    Attributes:
        version: of a published file; empty for others, which do not change.
    """

    file: LoraFile
    layers: Mapping[Target, Sequence[Layer]]
    version: str = ""


@dataclass(frozen=True)
class Selection:
    """The adapters of one request, in the versions that it began with: names and weights.

    Two selections are equal if they change the model in the same way.
    """

    adapters: tuple[tuple[str, Adapter, float], ...] = ()

    @property
    def state(self) -> str:
        """Text that is equal for equal selections."""
        return ",".join(
            f"{name}:{weight:g}@{adapter.version}" for name, adapter, weight in self.adapters
        )


class Loras:
    """The adapters of one model, by name.

    `applied` and `restore` are for one thread at a time, `update` for another one, and all else for
    any.

    Args:
        files: names and files.
        pipelines: the base, and the refiner if there is one.
        place: where more adapters are published while the model runs.
        obstacle: why no adapter can be added to these weights; None if they can.
    """

    def __init__(
        self,
        files: Iterable[tuple[str, Path]],
        pipelines: Sequence[Any],
        place: Place | None = None,
        *,
        obstacle: str | None = None,
    ) -> None:
        self._obstacle = obstacle
        self._adapters: dict[str, Adapter] = {}
        self._refused: dict[str, str] = {}
        self._weights = Weights()
        self._applied = Selection()
        self._kept: OrderedDict[Adapter, Tensors] = OrderedDict()
        named = list(files)
        # Only if needed: building the tables walks through all modules of the model.
        self._tables = _tables(pipelines) if named or place else {}
        self._published = Published(place, self._read) if place else None
        for name, path in named:
            self._check_file(name, path)

    @property
    def names(self) -> list[str]:
        """The names that a request can use, sorted; of published ones, those listed last."""
        return sorted({*self._adapters, *self.published})

    @property
    def published(self) -> list[str]:
        """The names of published adapters, as they were listed last."""
        names = self._published.names if self._published else ()
        return [name for name in names if name not in self._adapters]

    def keep_originals(self, stored: Iterable[nn.Module]) -> None:
        """Copy all weights that an adapter can change, before they are stored in 8 bits.

        Those are the layers of known adapters, or all that are stored so, if adapters can be
        published later.

        Args:
            stored: the layers that will be stored in 8 bits.
        """
        layers = {
            layer
            for adapter in self._adapters.values()
            for targets in adapter.layers.values()
            for layer in targets
        }
        if self._published:
            layers |= {*stored}
        self._weights.keep(layers)

    def is_outdated(self, lora: str | None, changed: float = -math.inf) -> bool:
        """Whether `update` has to ask the place of published adapters; only looks."""
        names = self._foreign(lora)
        return bool(
            self._published
            and (names or lora is None)
            and self._published.is_outdated(names, changed)
        )

    def update(self, lora: str | None, changed: float = -math.inf) -> None:
        """Look published adapters up, and fetch them; this can wait for a network.

        A failure is logged, and reported by `select`.

        Args:
            lora: names with weights as in a request; None for the names of all adapters.
            changed: when one of their files was changed last, as far as the caller knows, in
                seconds since 1970.

        Raises:
            AdaptersUnavailable: if a change is known that could not be read.
        """
        if self._published and self.is_outdated(lora, changed):
            self._published.update(self._foreign(lora), changed)

    def _foreign(self, lora: str | None) -> list[str]:
        return [name for name, _ in _pairs(lora or "") if name not in self._adapters]

    def check(self, lora: str) -> None:
        """Refuse unknown adapters and those that do not fit the model; raises as `select`."""
        self.select(lora)

    def select(self, lora: str) -> Selection:
        """Return the adapters of a request, after `update`.

        Raises:
            InvalidField: naming `lora`, if an adapter is unknown, with the available names, or does
                not fit the model.
            AdaptersUnavailable: if a published adapter could not be looked up.
        """
        pairs = [(name, self._find(name), weight) for name, weight in _pairs(lora)]
        return Selection(tuple(pair for pair in pairs if pair[2]))

    def _find(self, name: str) -> Adapter:
        if name in self._refused:
            raise _unusable(name, self._refused[name])
        adapter = self._adapters.get(name)
        if adapter is None and self._published:
            try:
                adapter = self._published.find(name)
            except LoraUnusable as error:
                raise _unusable(name, str(error)) from error
        if adapter is None:
            names = ", ".join(self.names)[:1_000]  # an error is no place for a long list
            available = f"available: {names}" if names else "this model has no adapters"
            raise InvalidField("lora", f"unknown adapter {name}; {available}")
        return adapter

    @contextmanager
    def applied(self, lora: str | Selection) -> Iterator[None]:
        """A context in which these adapters are applied, and no others.

        They stay applied afterwards, so that the same adapters cost nothing in the next request. A
        failure restores the model's own weights.

        Args:
            lora: what `select` returned, or names with weights to select.

        Raises:
            InvalidField: naming `lora`, if an adapter's values are not finite, or too large for the
                model together with its weight.
        """
        try:
            self._apply(self.select(lora) if isinstance(lora, str) else lora)
            yield
        except BaseException:  # an interrupted change must not stay in the weights, either
            self.restore()
            raise

    def restore(self) -> None:
        """Restore the weights that the model was loaded with."""
        self._weights.restore()
        self._applied = Selection()

    def _apply(self, selection: Selection) -> None:
        if selection == self._applied:
            return
        self._drop_replaced()
        additions: dict[Layer, list[Addition | Computed]] = {}
        for name, adapter, weight in selection.adapters:
            for target, formula in self._tensors(name, adapter).items():
                term = _term(formula, weight)
                for layer in adapter.layers[target]:
                    additions.setdefault(layer, []).append(term)
        try:
            self._weights.change(additions)
        except TooLarge as error:
            used = ", ".join(f"{name}:{weight:g}" for name, _, weight in selection.adapters)
            reason = f"{used} gives numbers that are too large for this model; use smaller weights"
            raise InvalidField("lora", reason) from error
        self._applied = selection

    def _drop_replaced(self) -> None:
        """Free the tensors of published files that were replaced or deleted."""
        if self._published:
            current = {*self._adapters.values(), *self._published.current}
            for adapter in set(self._kept) - current:
                del self._kept[adapter]

    def _tensors(self, name: str, adapter: Adapter) -> Tensors:
        """Return an adapter's tensors, from the cache if they are there.

        They are read when they are needed first, so a fault in them is found only then.
        """
        # A request that waited while another one found the fault.
        if name in self._refused:
            raise _unusable(name, self._refused[name])
        if adapter not in self._kept:
            try:
                self._kept[adapter] = adapter.file.tensors()
            except LoraUnusable as error:
                self._refuse_later(name, adapter, str(error))
                raise _unusable(name, str(error)) from error
        self._kept.move_to_end(adapter)
        # At least one is kept, however large, for the request that needs it.
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > _KEPT_BYTES:
            self._kept.popitem(last=False)
        return self._kept[adapter]

    def _check_file(self, name: str, path: Path) -> None:
        try:
            self._adapters[name] = self._read(path)
        except LoraUnusable as error:
            self._refuse(name, path, str(error))

    def _read(self, path: Path, version: str = "") -> Adapter:
        """Return the adapter of a file; raises LoraUnusable."""
        if self._obstacle is not None:
            raise LoraUnusable(self._obstacle)
        try:
            file = LoraFile(path)
            return Adapter(file, _fit(file.changes, self._tables), version)
        except LoraUnusable:
            raise
        except Exception as error:  # one file's fault must not end the model
            raise LoraUnusable(f"it cannot be read ({type(error).__name__})") from error

    def _refuse_later(self, name: str, adapter: Adapter, reason: str) -> None:
        """Note what is wrong with the tensors of an adapter that was offered."""
        if self._adapters.pop(name, None) is adapter:
            self._refuse(name, adapter.file.path, reason)
        elif self._published:
            self._published.refuse(name, adapter, reason)

    def _refuse(self, name: str, path: Path, reason: str) -> None:
        self._refused[name] = reason
        log.event("lora_unusable", lora=name, path=path, error=reason)


def merge(path: Path, pipelines: Sequence[Any]) -> None:
    """Add a LoRA to the weights for good, at weight 1; requests' own adapters work on top of it.

    Raises:
        LoraUnusable: if the file cannot be read, or does not fit the model.
    """
    loras = Loras([(_MERGED, path)], pipelines)
    try:
        loras._apply(loras.select(f"{_MERGED}:1"))  # and never restored
    except InvalidField as error:
        raise LoraUnusable(str(error).partition("cannot be used: ")[2] or str(error)) from error


def _unusable(name: str, reason: str) -> InvalidField:
    return InvalidField("lora", f"{name} cannot be used: {reason}")


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
