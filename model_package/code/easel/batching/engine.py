"""Several requests on their way to a picture, one step of some of them at a time.

Each request is a run of the generator itself, suspended whenever it calls a denoiser or the VAE
(`run.py`). Runs that wait for the same call at the same size of a batch get it as one call
(`calls.py`). So they join and leave between steps, and everything else about a picture, such as its
noise, scheduler, guidance, refiner and safety checker, is its own.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from easel import log
from easel.batching.calls import run_together
from easel.batching.pace import Pace, guided
from easel.batching.plan import has_room, next_batch, sizes_of
from easel.batching.run import Result, Run
from easel.batching.sizes import Sizes
from easel.errors import EaselError, guard
from easel.generator import GeneratedImage, ImageGenerator, free_memory_of, is_out_of_memory
from easel.lora.adapters import Selection
from easel.pipelines.preview import Preview
from easel.pipelines.watch import Watch
from generation import GenerationRequest

Kind = tuple[int | None, int | None, bool]


class _Waiting(NamedTuple):
    """A complete request, as a run begins with it."""

    request: GenerationRequest
    adapters: Selection
    watch: Watch
    arrived: float | None


class Engine:
    """Generates requests together; for one thread, except for `check`, `seconds` and `describe`.

    Args:
        generator: the model's; nobody else may use it meanwhile.
        sizes: of batches.

    Attributes:
        capacity: the most requests that are generated at a time.
        pace: what was learned about the time that pictures take.
        warming_up: whether a step may compile code, and pictures are not logged.
    """

    def __init__(self, generator: ImageGenerator, sizes: Sizes, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self.warming_up = False
        self._generator = generator
        self._sizes = sizes
        self._preview = Preview()
        self._waiting: deque[_Waiting] = deque()
        self._runs: list[Run] = []
        self._finished: list[tuple[Watch, Result]] = []
        self._most: dict[Kind, int] = {}  # the largest size that fits the memory, where known
        self._turn = 0
        self._painted: Counter[int] = Counter()

    @property
    def capacity(self) -> int:
        return self._sizes.largest

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._waiting or self._runs or self._finished)

    @property
    def halved(self) -> bool:
        """Whether a batch did not fit the memory."""
        return bool(self._most)

    def fits(self, request: GenerationRequest) -> bool:
        """Whether the request would start with the next step; else it waits for others to end."""
        adapters = guard(self._generator.adapters, request)
        if isinstance(adapters, EaselError):
            return True  # which `add` finds as well
        return self._has_room(adapters, list(self._waiting))

    def check(self, request: GenerationRequest) -> EaselError | None:
        """Return what is wrong with a request, if anything is."""
        checked = guard(self._generator.check, request)
        return checked if isinstance(checked, EaselError) else None

    def seconds(self, request: Any) -> float | None:
        """Return the estimated seconds of a picture that is generated alone.

        Args:
            request: what `input_fn` returned; None is returned for what is no request for an image.
        """
        if not isinstance(request, GenerationRequest):
            return None
        checked = guard(self._generator.check, request)
        if isinstance(checked, EaselError):
            return 0.0
        return self.pace.seconds(self._generator.painted(checked))

    def describe(self) -> dict[str, Any]:
        """Return the sizes of batches, and what is being generated, for JSON."""
        return {
            "capacity": self.capacity,
            "mode": "exact" if self._sizes.exact else "auto",
            "seconds_per_step": {
                str(size): round(seconds, 6) for size, seconds in self._sizes.seconds.items()
            },
            "painting": [
                {"width": run.request.width, "height": run.request.height, "batch": run.size}
                for run in list(self._runs)
            ],
            "waiting": len(self._waiting),
            "painted": {str(size): count for size, count in sorted(self._painted.items())},
        }

    def add(self, request: GenerationRequest | EaselError, watch: Watch) -> None:
        """Take a request; what is wrong with it is returned by `step`."""
        if isinstance(request, EaselError):  # `input_fn` has found it
            self._finished.append((watch, request))
            return
        waiting = guard(self._completed, request, watch)
        if isinstance(waiting, EaselError):
            self._finished.append((watch, waiting))
        else:
            self._waiting.append(waiting)

    def _completed(self, request: GenerationRequest, watch: Watch) -> _Waiting:
        completed = self._generator.complete(request)
        arrived = None if self.warming_up else time.perf_counter()
        return _Waiting(completed, self._generator.adapters(completed), watch, arrived)

    def step(self) -> list[tuple[Watch, Result]]:
        """Do one call for the runs that can share it; return what has ended with it."""
        self._start()
        if self._runs:
            self._turn += 1
            self._advance(next_batch(self._runs, self._turn))
        finished, self._finished = self._finished, []
        return finished

    def _start(self) -> None:
        starting: list[_Waiting] = []
        while self._waiting and self._has_room(self._waiting[0].adapters, starting):
            starting.append(self._waiting.popleft())
        kinds = [self._kind(each.request) for each in starting]
        running = [(self._kind(run.request), run.size) for run in self._runs]
        chosen = sizes_of(kinds, running, self._sizes, self._most)
        for each, size in zip(starting, chosen, strict=True):
            self._begin(each, size)

    def _has_room(self, adapters: Selection, starting: Sequence[_Waiting]) -> bool:
        present = [run.adapters for run in self._runs] + [other.adapters for other in starting]
        return has_room(adapters, present, self.capacity)

    def _kind(self, request: GenerationRequest) -> Kind:
        """Return what requests that can share a batch have in common, as far as one can tell."""
        painted = self._generator.painted(request)
        return painted.width, painted.height, guided(request)

    def _begin(self, taken: _Waiting | Run, size: int) -> None:
        run = Run(
            self._generator,
            taken.request,
            taken.adapters,
            taken.watch,
            size=size,
            preview=self._preview,
            arrived=taken.arrived,
        )
        self._runs.append(run)
        self._go_on(run)

    def _advance(self, runs: Sequence[Run]) -> None:
        try:
            replies = self._perform(runs)
        except Exception as error:  # noqa: BLE001 - the runs that it belongs to raise it
            return self._fail(runs, error)
        for run, reply in zip(runs, replies, strict=True):
            self._go_on(run, reply)
        return None

    def _perform(self, runs: Sequence[Run]) -> list[Any]:
        """Return what the calls return that the runs wait for."""
        calls = [run.call for run in runs if run.call is not None]
        with self._generator.computing(runs[0].adapters, compiling=self.warming_up):
            if calls[0].key is None:
                return [call.run() for call in calls]
            return run_together(calls, runs[0].size)

    def _fail(self, runs: Sequence[Run], error: Exception) -> None:
        call, size = runs[0].call, runs[0].size
        shared = call is not None and call.key is not None
        if shared and is_out_of_memory(error):
            free_memory_of(error)
            self._halve(runs, size // 2)
        elif len(runs) > 1:
            # A call changes nothing, so each can be done again without the others.
            for run in runs:
                self._advance([run])
        else:
            self._go_on(runs[0], error=error)

    def _halve(self, runs: Sequence[Run], size: int) -> None:
        """Begin again, in smaller batches: the size must not change while a picture is made."""
        for run in runs:
            log.event("batch_halved", width=run.request.width, height=run.request.height, to=size)
            self._most[self._kind(run.request)] = size
            self._runs.remove(run)
            run.close()
        for run in runs:
            self._begin(run, size)

    def _go_on(self, run: Run, reply: Any = None, error: Exception | None = None) -> None:
        run.alone = run.alone and len(self._runs) == 1
        run.advance(reply, error)
        run.since = self._turn
        if not run.ended:
            return
        self._runs.remove(run)
        self._finished.append((run.watch, run.result()))
        self._painted[run.size] += 1
        if run.alone and run.size == 1 and isinstance(run.result(), GeneratedImage):
            self.pace.learn(self._generator.painted(run.request), **run.times())
