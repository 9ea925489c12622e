"""The adapters of a place whose files can change while the model runs.

A file is fetched to this machine's disk when a request first names its adapter, and again when the
place has another one of that name. How the place is asked:

- only for a request that names adapters;
- for its list of files, once in ten seconds at most for the names in it, so that a replaced file is
  used, and a deleted one not used, after ten seconds;
- for a name that is not in the list, at once, but only once in ten seconds for the same name;
- for a request that knows of a later change than the list, at once: the gateway states when the
  files were changed that it counts on, so that it stores no picture of an earlier one under the
  name of a later one;
- after a failure, again after ten seconds. Adapters that were fetched can be used meanwhile.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from easel import log
from easel.errors import AdaptersUnavailable
from easel.lora.keys import LoraUnusable
from easel.lora.places import FileChanged, Listed, Place, PlaceUnavailable

_FRESH_SECONDS = 10.0
# S3 states times in whole seconds.
_CHANGE_SECONDS = 1.0
_LARGEST_FILE = 2 * 2**30  # SDXL at rank 256 takes 1.5 GB
_LARGEST_FOLDER = 8 * 2**30
Adapter = TypeVar("Adapter")


@dataclass(frozen=True)
class _Fetched(Generic[Adapter]):
    """A file that was fetched, as an adapter or with the reason why it is none."""

    listed: Listed
    adapter: Adapter | None = None
    reason: str = ""


class Published(Generic[Adapter]):
    """Copies of a place's files, as far as requests named them.

    `update` waits for the place, in one thread at a time. All else only looks.

    Args:
        place: has the files.
        read: makes an adapter of a file and its tag; raises LoraUnusable.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        place: Place,
        read: Callable[[Path, str], Adapter],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._place, self._read, self._clock = place, read, clock
        # On the instance's local disk, which is larger than the container's own.
        self._folder = Path(tempfile.mkdtemp(prefix="easel-loras-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._updating = threading.Lock()
        self._listed: dict[str, Listed] = {}
        self._listed_at = self._failed_at = -math.inf
        self._missed: dict[str, float] = {}
        self._fetched: dict[str, _Fetched[Adapter]] = {}
        self._used: dict[str, float] = {}

    @property
    def names(self) -> list[str]:
        """The names in the list as it was read last, without files that are no adapters."""
        unusable = {name for name, fetched in self._fetched.copy().items() if fetched.reason}
        return sorted(set(self._listed) - unusable)

    def find(self, name: str) -> Adapter | None:
        """Return an adapter, as `update` has found it; None if there is none.

        Raises:
            LoraUnusable: if its file is no adapter for this model.
            AdaptersUnavailable: if the place could not be asked.
        """
        fetched = self._fetched.get(name)
        if fetched is None:
            if self._has_failed or name in self._listed or math.isinf(self._listed_at):
                raise AdaptersUnavailable(f"lora: {name} could not be looked up; try again.")
            return None
        self._used[name] = self._clock()
        if fetched.adapter is None:
            raise LoraUnusable(fetched.reason)
        return fetched.adapter

    @property
    def current(self) -> list[Adapter]:
        """The adapters of all fetched files."""
        copies = self._fetched.copy().values()
        return [fetched.adapter for fetched in copies if fetched.adapter is not None]

    def refuse(self, name: str, adapter: Adapter, reason: str) -> None:
        """Note what turned out to be wrong with an adapter's file."""
        fetched = self._fetched.get(name)
        if fetched is not None and fetched.adapter is adapter:
            self._fetched[name] = _Fetched(fetched.listed, reason=reason)

    def is_outdated(self, names: Collection[str], changed: float = -math.inf) -> bool:
        """Whether `update` has something to do.

        Args:
            names: of adapters; without any, only the list counts.
            changed: when one of their files was changed last, as far as is known; since 1970.
        """
        if self._is_older(changed):
            return True
        if self._has_failed:
            return False
        return self._list_is_outdated(names) or any(map(self._is_missing, names))

    @property
    def _has_failed(self) -> bool:
        return self._clock() - self._failed_at < _FRESH_SECONDS

    def _is_older(self, changed: float) -> bool:
        """Whether the list was read before a change of a file."""
        return self._listed_at < changed + _CHANGE_SECONDS and not math.isinf(changed)

    def _list_is_outdated(self, names: Collection[str]) -> bool:
        now = self._clock()
        if now - self._listed_at >= _FRESH_SECONDS:
            return True
        unlisted = (name for name in names if name not in self._listed)
        return any(now - self._missed.get(name, -math.inf) >= _FRESH_SECONDS for name in unlisted)

    def _is_missing(self, name: str) -> bool:
        listed, fetched = self._listed.get(name), self._fetched.get(name)
        return listed is not None and (fetched is None or fetched.listed != listed)

    def update(self, names: Collection[str], changed: float = -math.inf) -> None:
        """Ask the place for what is outdated; a failure is logged, and shows in `find`.

        Args:
            names: as for `is_outdated`.
            changed: likewise.

        Raises:
            AdaptersUnavailable: if a change is known that could not be read.
        """
        with self._updating:
            # Not if another request has updated them meanwhile.
            if not self._has_failed and self.is_outdated(names, changed):
                self._update(names, changed)
            if self._has_failed and self._is_older(changed):
                raise AdaptersUnavailable("lora: a changed file could not be read; try again.")

    def _update(self, names: Collection[str], changed: float) -> None:
        try:
            if self._is_older(changed) or self._list_is_outdated(names):
                self._list(names)
            for name in filter(self._is_missing, names):
                self._fetch(name)
        except PlaceUnavailable as error:
            self._failed_at = self._clock()
            log.event("loras_unavailable", error=str(error))

    def _list(self, names: Collection[str]) -> None:
        now = self._clock()  # before the call: what changes meanwhile may not be in the list
        listed = dict(self._place.files())
        for name in set(self._fetched) - set(listed):
            self._forget(name)
        self._listed, self._listed_at = listed, now
        recent = {name: at for name, at in self._missed.items() if now - at < _FRESH_SECONDS}
        self._missed = recent | dict.fromkeys(set(names) - set(listed), now)

    def _fetch(self, name: str) -> None:
        try:
            self._fetched[name] = self._copy(name)
        except FileChanged:
            self._list([name])
            if self._is_missing(name):
                try:
                    self._fetched[name] = self._copy(name)
                except FileChanged as error:
                    raise PlaceUnavailable(f"{name} changes all the time") from error

    def _copy(self, name: str) -> _Fetched[Adapter]:
        listed = self._listed[name]
        if listed.size > _LARGEST_FILE:
            return self._unusable(name, listed, f"its file has more than {_LARGEST_FILE:,} bytes")
        self._make_room(name, listed.size)
        # The name is one of a request, so that it leads nowhere else.
        version = hashlib.sha256(listed.tag.encode()).hexdigest()[:16]
        path = self._folder / f"{name}-{version}.safetensors"
        part = path.with_suffix(".part")
        try:
            self._folder.mkdir(exist_ok=True)  # in case something cleans up /tmp
            self._place.fetch(listed, part)
            part.replace(path)
        except OSError as error:
            raise PlaceUnavailable(str(error)) from error
        finally:
            part.unlink(missing_ok=True)
        try:
            adapter = self._read(path, version)
        except LoraUnusable as error:
            path.unlink()
            return self._unusable(name, listed, str(error))
        # Requests that began with it may still read it after it was replaced.
        weakref.finalize(adapter, path.unlink, missing_ok=True)
        return _Fetched(listed, adapter)

    def _unusable(self, name: str, listed: Listed, reason: str) -> _Fetched[Adapter]:
        log.event("lora_unusable", lora=name, path=listed.path, error=reason)
        return _Fetched(listed, reason=reason)

    def _make_room(self, name: str, size: int) -> None:
        """Forget the adapters that were not used for the longest time."""
        others = sorted(set(self._fetched) - {name}, key=lambda each: self._used.get(each, 0.0))
        taken = sum(self._fetched[each].listed.size for each in others)
        for each in others:
            if taken + size <= _LARGEST_FOLDER:
                return
            taken -= self._fetched[each].listed.size
            self._forget(each)

    def _forget(self, name: str) -> None:
        self._fetched.pop(name, None)
        self._used.pop(name, None)
