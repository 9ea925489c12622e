"""Measure, while a model warms up, how large its batches should be.

Batching gains where a denoising step is bound by launching kernels or by reading weights: much for
small pictures on a GPU, little or nothing for large ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from easel import log
from easel.batching.engine import Engine
from easel.batching.pace import Pace
from easel.batching.run import Run
from easel.batching.sizes import SIZES, Sizes, worthwhile
from easel.errors import EaselError
from easel.generator import GeneratedImage, ImageGenerator
from easel.speed.speed import Batch
from generation import GenerationRequest

# Seconds that a start may take longer for it. A CPU that is slower than this gains nothing.
_MOST_SECONDS = {"cuda": 30.0, "cpu": 4.0}


class Nobody:
    """A watch without a caller.

    Args:
        leaves: before the image is decoded.
    """

    deadline = math.inf

    def __init__(self, *, leaves: bool = False) -> None:
        self._leaves = leaves
        self._left = False

    def cancelled(self) -> bool:
        return self._left

    def progressed(self, step: int, steps: int) -> None:
        self._left = self._leaves and step >= steps

    def wants_preview(self) -> bool:
        return False

    def preview(self, pixels: Any) -> None:
        pass


class _Timed(Engine):
    """Notes how long the calls of denoisers take, and whether they are shared."""

    def __init__(self, generator: ImageGenerator, size: int) -> None:
        super().__init__(generator, Sizes({size: 1.0}, exact=True))
        self.warming_up = True
        self.steps: list[float] = []
        self.shared = False

    def paint(self, requests: Sequence[GenerationRequest]) -> list[GeneratedImage]:
        """Return the images in the requests' order; raise the first error."""
        watches = [Nobody() for _ in requests]
        results = self._results(requests, watches)
        return [results[id(watch)] for watch in watches]

    def denoise(self, requests: Sequence[GenerationRequest]) -> None:
        """Do the steps alone; raise the first error."""
        self._results(requests, [Nobody(leaves=True) for _ in requests])

    def _results(
        self, requests: Sequence[GenerationRequest], watches: Sequence[Nobody]
    ) -> dict[int, Any]:
        for request, watch in zip(requests, watches, strict=True):
            self.add(request, watch)
        results: dict[int, Any] = {}
        while self.busy:
            results |= {id(watch): result for watch, result in self.step()}
        for watch in watches:
            result = results[id(watch)]
            if isinstance(result, EaselError) and not watch.cancelled():
                raise result
        return results

    def _perform(self, runs: Sequence[Run]) -> list[Any]:
        call = runs[0].call
        if call is None or call.part == "vae":
            return super()._perform(runs)
        self.shared = call.key is not None
        began = _clock()
        replies = super()._perform(runs)
        self.steps.append(_clock() - began)
        return replies


@dataclass
class _Figures:
    """What was measured at the default size of a picture, in seconds.

    Attributes:
        step: of one denoising step, by size of the batch.
        rest: of everything else about one picture.
    """

    step: dict[int, float] = field(default_factory=dict)
    rest: float = 0.0

    def per_picture(self, steps: int) -> dict[int, float]:
        return {size: steps * step / size + self.rest for size, step in self.step.items()}


def measure(generator: ImageGenerator, batch: Batch) -> tuple[Sizes, Pace]:
    """Return the sizes of batches for a warmed-up model, and the time that its pictures take.

    Args:
        generator: generates a few pictures in few steps.
        batch: the owner's choice; a size that is chosen is not questioned.
    """
    pace = Pace()
    if generator.denoiser is None or batch.size == 1:
        return Sizes({1: 1.0}, exact=batch.exact), pace
    steps = generator.complete(GenerationRequest(prompt="a")).steps or 1
    figures = _measure(generator, steps, batch.size, pace)
    largest = batch.size or worthwhile(figures.per_picture(steps))
    if largest > 1 and not _rows_are_independent(generator, largest):
        largest = 1
    slowest = max(figures.step.values(), default=1.0)
    sizes = {size: figures.step.get(size, slowest) for size in SIZES if size <= largest}
    return Sizes(sizes, exact=batch.exact), pace


def _measure(generator: ImageGenerator, steps: int, chosen: int | None, pace: Pace) -> _Figures:
    """Generate at one size after the other while it gains, fits and does not take too long."""
    figures = _Figures()
    until = _clock() + _most_seconds()
    request = generator.painted(generator.quickest(None, None))
    expected = 0.0 if _has_gpu() else _guess(generator, request)
    for size in (size for size in SIZES if size <= (chosen or SIZES[-1])):
        if _clock() + expected > until:
            break
        took = _measure_size(generator, request, size, figures, pace)
        if took is None:
            break
        expected = 2 * took
        if chosen is not None or worthwhile(figures.per_picture(steps)) == size:
            continue
        # Other work on the machine can have disturbed it, which would turn batches off for good.
        # The largest size would cost more than a second look gains.
        if size < SIZES[-1] and _clock() + took < until:
            _measure_size(generator, request, size, figures, pace)
        if worthwhile(figures.per_picture(steps)) < size:
            break
    return figures


def _measure_size(
    generator: ImageGenerator, request: GenerationRequest, size: int, figures: _Figures, pace: Pace
) -> float | None:
    """Add the figures of one size, or better ones; return the seconds that it took.

    Returns:
        None if the size cannot be used: its requests share no call, or do not fit the memory.
    """
    engine = _Timed(generator, size)
    began, began_by_wall = _clock(), time.perf_counter()
    try:
        (engine.paint if size == 1 else engine.denoise)(_others(request, size))
    except EaselError as error:
        log.event("batch_not_measured", size=size, reason=str(error))
        return None
    if engine.halved or (size > 1 and not engine.shared):
        return None
    took = _clock() - began
    figures.step[size] = min([*engine.steps, figures.step.get(size, math.inf)])
    if size == 1:
        figures.rest = took - sum(engine.steps)
        by_wall = (time.perf_counter() - began_by_wall) / max(took, 1e-9)
        pace.learn(request, step=by_wall * figures.step[1], rest=by_wall * figures.rest)
    return took


def _guess(generator: ImageGenerator, request: GenerationRequest) -> float:
    """Return the seconds of a request in proportion to those of the smallest picture."""
    smallest = generator.painted(generator.quickest(*generator.capabilities.smallest))
    engine, pace = _Timed(generator, 1), Pace()
    began = _clock()
    engine.paint([smallest])
    step = min(engine.steps, default=0.0)
    pace.learn(smallest, step=step, rest=_clock() - began - sum(engine.steps))
    return pace.seconds(request)


def _rows_are_independent(generator: ImageGenerator, size: int) -> bool:
    """Whether a picture is the same alone and with others, at a size.

    It is for a UNet on a CPU, as the tests show. Elsewhere it is tried: a transformer may mix its
    rows, and a GPU's libraries may compute a row differently in another place.
    """
    if not _has_gpu() and type(generator.denoiser).__name__ == "UNet2DConditionModel":
        return True
    request = generator.painted(generator.quickest(None, None))
    try:
        engine = _Timed(generator, size)
        (alone,) = engine.paint([request])
        *_, among_others = engine.paint([*_others(request, size)[1:], request])
    except EaselError as error:
        log.event("batch_not_measured", size=size, reason=str(error))
        return False
    same = engine.shared and np.array_equal(alone.pixels, among_others.pixels)
    log.event("batch_tried", size=size, same=same)
    return same


def _others(request: GenerationRequest, number: int) -> list[GenerationRequest]:
    return [replace(request, seed=seed) for seed in range(number)]


def _has_gpu() -> bool:
    return torch.cuda.is_available()


def _clock() -> float:
    """Return seconds: on a CPU of its work for this process, which other processes only delay."""
    if not _has_gpu():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _most_seconds() -> float:
    threads = 1 if _has_gpu() else torch.get_num_threads()
    return threads * _MOST_SECONDS["cuda" if _has_gpu() else "cpu"]


def make_engine(generator: ImageGenerator) -> Engine:
    """Return an engine for a warmed-up model, with the sizes that EASEL_BATCH asks for."""
    sizes, pace = measure(generator, generator.batch)
    generator.report_batch(str(sizes))
    log.event("batch", sizes=list(sizes.seconds), exact=sizes.exact)
    return Engine(generator, sizes, pace)
