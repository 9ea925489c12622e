"""The model that the serving toolkit keeps between requests."""

from __future__ import annotations

import threading
from collections.abc import Callable

from easel.errors import EaselError, guard
from easel.generator import Painter


class Model:
    """A painter, loaded on first use.

    Loading can fail for a reason that passes, such as a hub that does not answer, so a failure is
    not kept: whoever asks next tries again, as the toolkit itself does.
    """

    def __init__(self, load: Callable[[], Painter]) -> None:
        self._load = load
        self._painter: Painter | None = None
        self._turn = threading.Lock()

    def painter(self) -> Painter:
        """Return the painter.

        Raises:
            EaselError: if the model cannot be loaded.
        """
        with self._turn:
            if self._painter is None:
                self._painter = self._load()
            return self._painter

    def try_to_load(self) -> EaselError | None:
        """Load now; a failure is logged and returned instead of raised."""
        result = guard(self.painter)
        return result if isinstance(result, EaselError) else None
