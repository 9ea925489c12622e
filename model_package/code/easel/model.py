"""The object that the serving toolkit keeps between requests."""

from __future__ import annotations

import threading
from collections.abc import Callable

from easel.errors import EaselError, guard
from easel.generator import ImageGenerator


class Model:
    """An image generator, loaded on first use.

    Loading can fail for a temporary reason, such as a hub that does not answer. A failure is
    therefore not kept: the next request tries again, as the toolkit itself does.
    """

    def __init__(self, load: Callable[[], ImageGenerator]) -> None:
        self._load = load
        self._generator: ImageGenerator | None = None
        self._failure: EaselError | None = None
        self._lock = threading.Lock()

    def generator(self) -> ImageGenerator:
        """Return the generator.

        Raises:
            EaselError: if the model cannot be loaded.
        """
        # The toolkit runs one request at a time, but a server may use threads.
        with self._lock:
            if self._generator is None:
                self._generator = self._load()
            return self._generator

    def try_to_load(self) -> EaselError | None:
        """Load now; a failure is logged and returned instead of raised."""
        result = guard(self.generator)
        self._failure = result if isinstance(result, EaselError) else None
        return self._failure

    def loaded(self) -> ImageGenerator:
        """Return the generator, for a server that ends if the model cannot be loaded.

        Raises:
            EaselError: that of `try_to_load`, without trying again.
        """
        if self._failure is not None:
            raise self._failure
        return self.generator()
