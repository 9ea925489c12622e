"""The LoRA adapters that can be published, replaced and deleted while the gateway runs.

Their list is read from S3: once in ten seconds at most for the names in it; at once for a name that
is not in it, but once in ten seconds for the same name. Requests that name no adapter never wait
for it. The containers keep to the same rules (`published.py` in the model package).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from chalicelib.aws.deadline import Deadline, shared, sharing
from chalicelib.aws.s3 import Listed, Store
from chalicelib.errors import InvalidRequest, StoreUnavailable
from chalicelib.generation import RULES, GenerationRequest, Weighted, adapter_files
from chalicelib.settings import Model
from chalicelib.telemetry import logger

_FRESH_SECONDS = 10.0
# A page is not kept waiting for names. S3 answers in a tenth of a second.
_LONGEST_LOOK = 2.0
_RULE = cast(Weighted, RULES["lora"])


@dataclass(frozen=True)
class Versions:
    """The versions of a request's published adapters: other files make another picture.

    Attributes:
        tags: of the files, with the adapters' names.
        changed: when one of them was changed last, in seconds since 1970; None if the request has
            no published adapters.
    """

    tags: tuple[str, ...] = ()
    changed: int | None = None


class Adapters:
    """The adapters of all models on offer.

    Args:
        store: returns the objects of a bucket below a prefix.
        now: returns seconds since 1970.
    """

    def __init__(
        self, store: Callable[[str, str], Store], now: Callable[[], float] = time.time
    ) -> None:
        self._store, self._now = store, now
        self._lists: dict[tuple[str, str], _List] = {}

    def names(self, model: Model) -> tuple[str, ...]:
        """Return the names that a request can use, as far as they are known; raises nothing."""
        if model.adapters is None:
            return model.loras or ()
        published = self._list(model.adapters).read() or {}
        return tuple(sorted({*(model.loras or ()), *published}))

    def versions(self, model: Model, request: GenerationRequest) -> Versions:
        """Return the versions of a request's adapters.

        Raises:
            InvalidRequest: naming `lora`, if there certainly is no adapter of a name.
            StoreUnavailable: if the list could not be read and is needed.
        """
        own = model.loras or ()
        names = [name for name, _ in _RULE.pairs(request.lora) if name not in own]
        if model.adapters is None or not names:
            return Versions()
        published = self._list(model.adapters).read(names)
        if published is None:
            raise StoreUnavailable("The list of LoRA adapters could not be read.")
        unknown = [name for name in names if name not in published]
        # A model whose own adapters are not configured may have it.
        if unknown and model.loras is not None:
            raise InvalidRequest(_unknown(unknown[0], [*own, *published]), field="lora")
        used = [(name, published[name]) for name in names if name in published]
        return Versions(
            tuple(f"{name} {entry.tag} {entry.changed}" for name, entry in used),
            max((entry.changed for _, entry in used), default=None),
        )

    def _list(self, place: tuple[str, str]) -> _List:
        if place not in self._lists:
            self._lists[place] = _List(self._store(*place), self._now)
        return self._lists[place]


class _List:
    """A place's files by the names of their adapters."""

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store, self._now = store, now
        self._files: Mapping[str, Listed] | None = None
        self._read_at = self._failed_at = -math.inf
        self._missed: dict[str, float] = {}

    def read(self, names: Collection[str] = ()) -> Mapping[str, Listed] | None:
        """Return the list; None if it could not be read yet.

        Args:
            names: for which it has to be as new as the rules say.
        """
        if self._is_outdated(names):
            try:
                self._files = self._read(names)
            except StoreUnavailable:
                # An earlier list is better than none: the container reads its own.
                self._failed_at = self._now()
                logger.warning("adapters not listed")
        return self._files

    def _is_outdated(self, names: Collection[str]) -> bool:
        now = self._now()
        if now - self._failed_at < _FRESH_SECONDS:
            return False
        if now - self._read_at >= _FRESH_SECONDS:
            return True
        unlisted = (name for name in names if name not in (self._files or ()))
        return any(now - self._missed.get(name, -math.inf) >= _FRESH_SECONDS for name in unlisted)

    def _read(self, names: Collection[str]) -> dict[str, Listed]:
        now = self._now()
        seconds = min(shared().remaining, _LONGEST_LOOK)
        with sharing(Deadline(time.monotonic() + seconds)):
            entries = {entry.key: entry for entry in self._store.listed()}
        files = {name: entries[path] for name, path in adapter_files(entries).items()}
        recent = {name: at for name, at in self._missed.items() if now - at < _FRESH_SECONDS}
        self._missed = recent | dict.fromkeys(set(names) - set(files), now)
        self._read_at = now
        return files


def _unknown(name: str, names: Sequence[str]) -> str:
    """Return the container's own words for a name that it does not have."""
    listed = ", ".join(sorted(set(names)))[:1_000]
    available = f"available: {listed}" if listed else "this model has no adapters"
    return f"lora: unknown adapter {name}; {available}"
