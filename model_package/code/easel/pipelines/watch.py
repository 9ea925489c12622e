"""What a server knows and wants to know about a request while its picture is painted."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Watch(Protocol):
    """A server's object for one request; it is called between two steps and must be quick.

    Attributes:
        deadline: when the caller will have left, by `time.monotonic`; infinity if it does not say.
    """

    deadline: float

    def cancelled(self) -> bool:
        """Whether the caller has left."""

    def progressed(self, step: int, steps: int) -> None:
        """Called after each step, with the number of steps that are done, and of all."""

    def wants_preview(self) -> bool:
        """Whether a preview is wanted after this step."""

    def preview(self, pixels: NDArray[np.uint8]) -> None:
        """Take a small picture of what is there so far: RGB, shaped (height, width, 3)."""
