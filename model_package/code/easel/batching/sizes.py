"""How many requests are generated together: the sizes of batches, and which one a request gets."""

from __future__ import annotations

import math
from collections.abc import Mapping

SIZES = (1, 2, 4, 8)
LEAST_GAIN = 1.1  # in throughput, over the next smaller size


class Sizes:
    """The sizes of a model's batches.

    A batch always has as many rows as its size, so one that is not full costs as much as a full
    one. And a picture keeps the size that it began with, because its bits depend on it.

    Args:
        seconds: of one denoising step, by size; they must include 1.
        exact: use the largest size alone.
    """

    def __init__(self, seconds: Mapping[int, float], *, exact: bool = False) -> None:
        # More rows never take less time; where they seem to, the measurement was disturbed, and a
        # lone request would get a batch of copies.
        self.seconds = {
            size: max(seconds[each] for each in seconds if each <= size) for size in sorted(seconds)
        }
        self.largest = max(self.seconds)
        self.exact = exact

    def __str__(self) -> str:
        if self.exact:
            return f"exactly {self.largest}"
        return "off" if self.largest == 1 else f"up to {self.largest}"

    def choose(self, requests: int, open_sizes: Mapping[int, int], most: int | None = None) -> int:
        """Return the size for a request that starts now.

        Args:
            requests: that could share a batch, this one included.
            open_sizes: how many of them are being generated already, by size.
            most: the largest size that fits the memory.
        """
        most = self.largest if most is None else min(most, self.largest)
        if self.exact:
            return most
        # None that is more than half empty: it would be slower than it was measured to be.
        fitting = [size for size in self.seconds if size <= most and size < 2 * requests]
        best = min(fitting, key=lambda size: math.ceil(requests / size) * self.seconds[size])
        # A row that is computed as a copy costs nothing more with a request of its own.
        joined = [
            size
            for size, members in open_sizes.items()
            if 1 < size <= min(2 * best, most) and members % size
        ]
        return max(joined, default=best)


def worthwhile(seconds_per_picture: Mapping[int, float]) -> int:
    """Return the largest size that gains enough over the one before it."""
    largest = 1
    for size, smaller in zip(SIZES[1:], SIZES, strict=False):
        if size not in seconds_per_picture or smaller != largest:
            break
        if seconds_per_picture[smaller] < LEAST_GAIN * seconds_per_picture[size]:
            break
        largest = size
    return largest
