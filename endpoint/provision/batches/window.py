"""A batch through an asynchronous endpoint: a window of requests in SageMaker's queue.

SageMaker drops a request that waits for more than six hours, and scales with the backlog. So the
queue is kept filled, but never with more than one instance paints in five hours:

    fill      up to the window; what will be queued is noted before, and where to look after it
    collect   one LIST finds what has come, because the names of the objects sort as the requests
    look      at the oldest requests by themselves: for the reason of a failure, which is stored
              elsewhere, and for pictures whose place is another one than the others'

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpointAsync.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from endpoint.aws.bucket import Bucket
from endpoint.aws.runtime import LONGEST_RUN_SECONDS, AsyncJob, Runtime
from endpoint.cli.context import Context
from endpoint.core.backends.backend import Backend
from endpoint.core.backends.setting import EASEL
from endpoint.core.batches import places
from endpoint.core.picture_files import is_whole
from endpoint.core.problems import ScriptError, code_of
from endpoint.provision.batches.folder import Queued
from endpoint.provision.batches.run import Run, Task
from endpoint.provision.batches.usage import Recorded, Usage

QUEUE_SECONDS = 21_600  # SageMaker's most, and its default
# One instance must be able to empty the window in this time: others may not come.
_SAFE_SECONDS = 18_000
# What each instance is given: enough for a laptop that sleeps for a while.
_WINDOW_SECONDS = 3_600
_FEWEST, _MOST = 8, 1_000  # requests in the window for each instance
_UNKNOWN_SECONDS = 30.0  # of a picture, until it is measured
_THREADS = 8
_FILLED_AT_ONCE = 64  # so that pictures are collected meanwhile
_LOOKED_AT = 8
_CHECK_SECONDS = 60.0  # without a picture, after which it is asked whether the endpoint exists
_PAUSES = (0.2, 2.0)  # the shortest and the longest, in seconds
_PICTURES_PER_LIST = 4
# A picture that failed by accident is tried once more.
_TRIES = 2
_BUSY = {"ThrottlingException", "ServiceUnavailable", "ServiceUnavailableException",
         "InternalDependencyException", "InternalFailure", "TooManyRequestsException"}  # fmt: skip
# SageMaker's sentence around a container's error: "Received client error (400) from primary".
# The rule is the gateway's (`failure_of` in gateway/chalicelib/aws/sagemaker.py): these statuses
# would come again, but the serving toolkit reports any exception as a 400 of this type.
_STATUS = re.compile(r"\b(?:error|status|code)\b\W{1,5}(?:code\W{1,5})?([1-5]\d\d)\b", re.I)
_REFUSALS = {"400", "422"}
_ACCIDENT = "InternalServerException"
Item = TypeVar("Item")
Result = TypeVar("Result")


class Window:
    """The requests of a batch in the queue of an endpoint.

    Args:
        run: what is missing.
        endpoint: its name.
        output: the endpoint's S3OutputPath.
        version: of the model; what another one has queued is not waited for.
        instances: the most that the endpoint may have.
        seconds: of a picture, as estimated; None if that is unknown.
        usage: records the pictures.
        backend: what answers in the endpoint's container.
    """

    def __init__(
        self,
        context: Context,
        run: Run,
        *,
        endpoint: str,
        output: str,
        version: str,
        instances: int,
        seconds: float | None,
        usage: Usage,
        backend: Backend = EASEL,
    ) -> None:
        self._usage, self._backend = usage, backend
        self._runtime: Runtime = context.runtime
        self._bucket: Bucket = context.bucket_called(urlsplit(output).netloc)
        self._find_endpoint = context.endpoints.find
        self._clock, self._run = context.clock, run
        self._endpoint, self._instances, self._seconds = endpoint, instances, seconds
        self._version = version
        identifier = places.batch_id(run.folder.lines, version)
        self._folder = places.output_folder(identifier)
        self._recorded = Recorded(context.bucket, identifier)
        # Where it should be; SageMaker's responses say where it is.
        self._expected = f"{output.rstrip('/')}/{self._folder}"
        self._files = {
            task.number: places.output_file(task.number, task.picture) for task in run.left.values()
        }
        self._queued: dict[int, Queued] = {}
        self._unsure: set[int] = set()
        self._tries: dict[int, int] = {}
        self._pool = ThreadPoolExecutor(_THREADS)

    def paint(self) -> None:
        """Paint everything that is missing, after `recover`.

        Raises:
            ClientError: if the endpoint refuses requests.
            ScriptError: if it is deleted meanwhile.
        """
        with self._pool:
            latest, idle = self._clock.monotonic(), 0
            while self._run.left:
                filled, came = self._fill(), self._collect(self._queued)
                self._run.show(f"{len(self._queued)} queued")
                if came:
                    latest, idle = self._clock.monotonic(), 0
                elif self._look() or filled:
                    continue
                else:
                    idle += 1
                self._clock.sleep(self._pause(idle))
                if self._clock.monotonic() - latest > _CHECK_SECONDS:
                    self._require_endpoint()
                    latest = self._clock.monotonic()

    def _pause(self, idle: int) -> float:
        """Return the seconds until the next look.

        The queue is deep, so that it need not be short: some pictures come with each LIST.

        Args:
            idle: how often there was nothing before.
        """
        each = self._run.seconds_each or _PAUSES[0]
        return min(max(_PICTURES_PER_LIST * each, _PAUSES[0] * 1.5 ** min(idle, 10)), _PAUSES[1])

    def _require_endpoint(self) -> None:
        """Raise ScriptError if the endpoint is gone, and with it its queue."""
        if self._find_endpoint(self._endpoint) is None:
            raise ScriptError(
                f"The endpoint {self._endpoint} was deleted; {len(self._run.left):,} pictures are"
                " left.",
                "`python -m endpoint start` restores it; then the same command continues.",
            )

    @property
    def waiting(self) -> int:
        """How many requests are in the queue, or at a container."""
        return len(self._queued)

    @property
    def size(self) -> int:
        """How many requests may be in the queue."""
        measured = self._run.seconds_each
        seconds = self._seconds or (measured or _UNKNOWN_SECONDS) * self._instances
        window = self._instances * min(max(_WINDOW_SECONDS / seconds, _FEWEST), _MOST)
        # Before it is measured: as if only one instance came.
        return int(max(min(window, _SAFE_SECONDS / (measured or seconds)), 1))

    # --- What earlier processes have left

    def recover(self) -> None:
        """Collect what has come meanwhile, and wait for what is in the queue already.

        It queues nothing, and needs no endpoint.
        """
        self._collect(self._run.left)
        now = self._clock.now().timestamp()
        for number in self._run.left:
            before = self._run.folder.notes.queued.get(self._entry(number))
            if before is None or _is_over(before, now):
                continue
            if before.output is None:
                # It may be in the queue. Others go first, and it is not queued again if it comes.
                self._unsure.add(number)
            else:
                self._queued[number] = before

    # --- Fill

    def _fill(self) -> int:
        """Queue requests up to the window; return how many."""
        free = min(self.size - len(self._queued), _FILLED_AT_ONCE)
        chosen = self._next(max(free, 0))
        before = len(self._queued)
        for task, queued in zip(chosen, self._map(self._submit, chosen), strict=True):
            if queued is None:
                continue
            if queued.output is None:
                self._unsure.add(task.number)
            else:
                self._queued[task.number] = queued
        return len(self._queued) - before

    def _next(self, count: int) -> list[Task]:
        certain = (
            task
            for number, task in self._run.left.items()
            if number not in self._queued and number not in self._unsure
        )
        chosen = list(islice(certain, count))
        if not chosen and count and len(self._queued) < len(self._run.left):
            chosen = [self._run.left[number] for number in sorted(self._unsure)[:count]]
            self._unsure.difference_update(task.number for task in chosen)
        return chosen

    def _submit(self, task: Task) -> Queued | None:
        """Queue a request; return None if the endpoint takes none at present.

        Where the response was lost, what is returned has no addresses.
        """
        file, entry = self._files[task.number], self._entry(task.number)
        now = self._clock.now().timestamp()
        self._run.folder.note({"queued": entry, "at": now})
        try:
            job = self._runtime.begin_async(
                self._endpoint,
                task.picture.request.to_dict(),
                file,
                accept=f"image/{task.picture.request.file_format}",
                folder=self._folder,
                queue_seconds=QUEUE_SECONDS,
                backend=self._backend,
            )
        except (ReadTimeoutError, ConnectionClosedError):
            return Queued(now)
        except ClientError as error:
            self._run.folder.note({"ended": entry})
            if code_of(error) in _BUSY:
                return None
            raise
        queued = Queued(now, job.output, job.failure)
        self._run.folder.note(
            {"queued": entry, "at": now, "output": job.output, "failure": job.failure}
        )
        return queued

    def _entry(self, number: int) -> str:
        """Return the name of a request in the journal."""
        return f"{self._version}/{self._files[number]}"

    # --- Collect

    def _collect(self, numbers: Collection[int]) -> int:
        """Store what has come from the first of these requests on; return how many pictures."""
        if not numbers:
            return 0
        oldest = min(numbers)
        output = self._queued[oldest].output if oldest in self._queued else None
        folder = output.rpartition("/")[0] if output else self._expected
        prefix = f"{urlsplit(folder).path.lstrip('/')}/"
        # It sorts before the whole name, which has the number at its beginning.
        came = {}
        for key in self._bucket.sizes(prefix, after=f"{prefix}{oldest:06}"):
            number = places.number_of(key)
            if number in self._run.left and key == f"{prefix}{self._files[number]}":
                came[number] = key
        bodies = self._map(self._bucket.get, came.values())
        self._record(
            {
                number: self._take(number, body)
                for number, body in zip(came, bodies, strict=True)
                if body is not None
            }
        )
        return len(came)

    def _record(self, seconds: Mapping[int, float]) -> None:
        """Record pictures by their numbers, unless they came into another folder before."""
        # The last ones are not recorded if the process ends here.
        self._map(self._usage.record, [seconds[number] for number in self._recorded.claim(seconds)])

    def _take(self, number: int, body: bytes) -> float:
        """Store a picture; return the seconds that it took, as far as that is known."""
        task = self._run.left[number]
        self._queued.pop(number, None)
        self._unsure.discard(number)
        if is_whole(body, task.picture.request.file_format):
            self._run.add(number, body)
        else:
            # It would be there again after another try.
            self._run.fail(number, "The model's response was not a whole picture.", 500)
        return self._seconds or self._run.seconds_each or 0.0

    # --- Look

    def _look(self) -> int:
        """Look at the oldest requests by themselves; return how many are over."""
        numbers = sorted(self._queued)[:_LOOKED_AT]
        jobs = [self._queued[number] for number in numbers]
        for number, (picture, reason) in zip(numbers, self._map(self._ask, jobs), strict=True):
            if picture is not None:
                self._record({number: self._take(number, picture)})
            elif reason is not None:
                self._fail(number, reason)
            elif _is_over(self._queued[number], self._clock.now().timestamp()):
                del self._queued[number]  # it was lost, and is queued again
        return sum(number not in self._queued for number in numbers)

    def _ask(self, queued: Queued) -> tuple[bytes | None, str | None]:
        return self._runtime.poll(_job(queued))

    def _fail(self, number: int, reason: str) -> None:
        """Leave a request to be queued again, or give it up."""
        queued = self._queued.pop(number)
        # First: else, should the process end here, the next one would wait for it.
        self._run.folder.note({"ended": self._entry(number)})
        self._runtime.forget_failure(_job(queued))
        status = _STATUS.search(reason)
        self._tries[number] = self._tries.get(number, 0) + 1
        if self._backend.name == EASEL.name:
            refused = status is not None and status[1] in _REFUSALS and _ACCIDENT not in reason
        else:
            report = self._backend.report(int(status[1]) if status else None, reason)
            refused = report.get("code") == "invalid_request"
        if refused or self._tries[number] == _TRIES:
            self._run.fail(number, reason, int(status[1]) if status and refused else 500)

    def _map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        return list(self._pool.map(work, items))


def _job(queued: Queued) -> AsyncJob:
    return AsyncJob(queued.output or "", queued.failure)


def _is_over(queued: Queued, now: float) -> bool:
    """Whether a request cannot be in the queue, nor run, any more."""
    return now - queued.at > QUEUE_SECONDS + LONGEST_RUN_SECONDS
