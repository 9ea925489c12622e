"""One request on its way to a picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

import torch

from easel.batching.calls import Call, StandIn
from easel.batching.coroutine import Coroutine, Suspend
from easel.errors import EaselError, guard
from easel.generator import GeneratedImage, ImageGenerator
from easel.lora.adapters import Selection
from easel.pipelines.preview import Preview
from easel.pipelines.time_limit import TimeLimit
from easel.pipelines.watch import Watch
from generation import GenerationRequest

Result = GeneratedImage | EaselError


class Run:
    """A request's run of the generator, suspended in each call of a denoiser or a VAE.

    Args:
        generator: the model's; its pipelines are not used, but twins of them.
        request: from `ImageGenerator.complete`.
        adapters: of the request, the same ones in all of its steps.
        watch: of whoever asked.
        size: of its batches; it never changes. With 1, all calls are those of `generate`.
        preview: makes the previews.
        arrived: by `time.perf_counter`; None if the picture is not logged.

    Attributes:
        call: that it is suspended in; None before its start and after its end.
        since: the engine's turn in which it was suspended.
        alone: whether there was no other run meanwhile.
    """

    def __init__(
        self,
        generator: ImageGenerator,
        request: GenerationRequest,
        adapters: Selection,
        watch: Watch,
        *,
        size: int,
        preview: Preview,
        arrived: float | None,
    ) -> None:
        self.request = request
        self.adapters = adapters
        self.watch = watch
        self.size = size
        self.arrived = arrived
        self.call: Call | None = None
        self.since = 0
        self.alone = True
        self._denoising: list[float] = []  # when denoising began, and when it ended so far
        self._generator = generator
        self._preview = preview
        self._randomness = _Randomness()
        self._coroutine: Coroutine[Result] = Coroutine(self._paint)

    @property
    def key(self) -> Hashable:
        """The key of the call that it is suspended in."""
        return self.call.key if self.call else None

    @property
    def ended(self) -> bool:
        """Whether there is a result."""
        return self._coroutine.ended

    def advance(self, reply: Any = None, error: BaseException | None = None) -> None:
        """Go on from the call that it is suspended in, to the next one or the end."""
        now = time.perf_counter()
        if self.call is None:
            self._began = now
        elif self.call.part != "vae":
            self._denoising[1:] = [now]
        with self._randomness:
            self.call = self._coroutine.advance(reply, error)
        if not self._denoising:
            self._denoising = [time.perf_counter()] * 2

    def result(self) -> Result:
        """Return what `generate` would have, or its error."""
        return self._coroutine.result()

    def times(self) -> dict[str, float]:
        """Return the seconds of a step, and of everything else; only after its end."""
        denoising = self._denoising[1] - self._denoising[0]
        rest = time.perf_counter() - self._began - denoising
        return {"step": denoising / (self.request.steps or 1), "rest": rest}

    def close(self) -> None:
        """Give up, without a result."""
        self._coroutine.close()

    def _paint(self, suspend: Suspend) -> Result:
        return guard(self._generate, suspend)

    def _generate(self, suspend: Suspend) -> GeneratedImage:
        request = self._generator.painted(self.request)
        limit = TimeLimit(
            self.watch.deadline, watch=self.watch, steps=request.steps, preview=self._preview
        )
        ensemble = self._generator.ensemble.twin(self._stand_in(suspend))
        return self._generator.paint(
            self.request, limit, ensemble, self.adapters, started=self.arrived, rows=self.size
        )

    def _stand_in(self, suspend: Suspend) -> Callable[[str, Any], StandIn]:
        def stand_in(name: str, part: Any) -> StandIn:
            # Pictures are decoded one at a time: a VAE gains nothing, and takes most of the memory.
            return StandIn(part, suspend, name=name, shared=self.size > 1 and name != "vae")

        return stand_in


class _Randomness:
    """A context with the run's own state of the global generators, which some schedulers use."""

    def __init__(self) -> None:
        self._states: tuple[torch.Tensor, list[torch.Tensor]] | None = None

    def __enter__(self) -> None:
        if self._states is not None:
            torch.set_rng_state(self._states[0])
            if torch.cuda.is_available():
                torch.cuda.set_rng_state_all(self._states[1])

    def __exit__(self, *_: object) -> None:
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        self._states = torch.get_rng_state(), devices
