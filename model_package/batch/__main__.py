"""Paint a batch, as a SageMaker training job runs it on a spot instance.

    python -m batch

Everything is below /opt/ml, or the folder that EASEL_TRAINING_HOME names:

    input/data/lines/lines.jsonl   a line for each picture: `file`, its name, and `request`
    input/data/model/              the model, and the serving code in model/code
    input/data/loras/              adapters, if there are any
    checkpoints/                   the pictures, failures.jsonl, and painted.jsonl with the
                                   seconds of each picture; mirrored to S3 meanwhile
    output/failure                 one sentence, if the job failed

Several pictures are painted at a time where the model gains from it. A picture that is there is not
painted again, so that an interrupted job goes on where it was. The exit code is 0 if each line has
a picture or a failure, 1 after a failure of the job, and 143 after SIGTERM.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from easel.batching.engine import Engine
from easel.batching.measure import Nobody, make_engine
from easel.errors import EaselError
from easel.generator import GeneratedImage
from easel.load import load_generator
from easel.serving.response import encode_file
from generation import GenerationRequest, InvalidField

from .job_folder import fail, gpu_problem

FAILURES, PAINTED = "failures.jsonl", "painted.jsonl"
# A picture that fails by accident is tried once more.
_TRIES = 2
# After so many accidents one after the other it is the GPU, and not the pictures.
_MOST_ACCIDENTS = 10
_AHEAD = 2  # times the engine's capacity, so that it can choose what fits together
_WRITERS = 2
_MOST_UNWRITTEN = 16


class BatchFailed(Exception):
    """The job cannot go on; the text is a sentence that a person can act on."""


@dataclass(frozen=True)
class Task:
    """A picture of the batch.

    Attributes:
        file: its name.
        request: a valid one.
    """

    file: str
    request: GenerationRequest


def main() -> int:
    """Paint; return the exit code, with the failure's sentence in its file."""
    home = Path(os.environ.get("EASEL_TRAINING_HOME", "/opt/ml"))
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        paint(home, signals)
    except Exception as error:  # noqa: BLE001 - whatever it is, the job must say it
        if not isinstance(error, BatchFailed | EaselError):
            traceback.print_exc()
        fail(home, sentence(error))
        return 1
    return 128 + signal.SIGTERM if signals else 0


def paint(home: Path, signals: list[int]) -> None:
    """Paint what is missing, until that is done or there is a signal.

    Raises:
        BatchFailed: if the lines cannot be read, or nothing can be painted any more.
        EaselError: if the model cannot be loaded.
    """
    if problem := gpu_problem(home):
        raise BatchFailed(problem)
    folder = home / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob("*.writing"):
        unfinished.unlink()
    failures = Failures(folder / FAILURES, os.environ.get("TRAINING_JOB_NAME", ""))
    tasks = [
        task
        for task in read_tasks(home / "input" / "data" / "lines" / "lines.jsonl")
        if task.file not in failures.files and not (folder / task.file).is_file()
    ]
    print(f"{len(tasks)} pictures are left to paint", flush=True)
    if not tasks:
        return
    # What the model can share most: adapters are in the weights, and a batch has one size.
    tasks.sort(key=lambda task: (task.request.lora, str(task.request.width),
                                 str(task.request.height)))  # fmt: skip
    engine = make_engine(load_generator(home / "input" / "data" / "model", os.environ))
    Worker(engine, folder, failures).paint(tasks, signals)


def read_tasks(path: Path) -> Iterator[Task]:
    """Yield the pictures of the batch.

    Raises:
        BatchFailed: if the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as rows:
            for row in rows:
                data = json.loads(row)
                yield Task(str(data["file"]), GenerationRequest.from_dict(data["request"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BatchFailed(f"lines.jsonl cannot be read: {error}") from error


class Failures:
    """`failures.jsonl`: a line for each picture that failed in this job.

    Args:
        path: of the file.
        job: its name; what failed in an earlier one is tried again.
    """

    def __init__(self, path: Path, job: str) -> None:
        self._path, self._job = path, job
        rows = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [row for row in rows if self._file_of(row) is not None]
        self.files = {self._file_of(row) for row in kept}
        unfinished = path.with_suffix(".writing")
        unfinished.write_text("".join(f"{row}\n" for row in kept), encoding="utf-8")
        unfinished.replace(path)

    def add(self, task: Task, error: EaselError) -> None:
        """Append a line."""
        row = {
            "file": task.file,
            "status": error.status,
            "message": str(error),
            "job": self._job,
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(row)}\n")

    def _file_of(self, row: str) -> str | None:
        try:
            data = json.loads(row)
            return str(data["file"]) if data["job"] == self._job else None
        except (ValueError, KeyError, TypeError):
            return None  # the machine ended while it was written


class Worker:
    """Paints tasks with an engine, while threads write the pictures that are ready."""

    def __init__(self, engine: Engine, folder: Path, failures: Failures) -> None:
        self._engine, self._folder, self._failures = engine, folder, failures
        self._asked: dict[int, tuple[Nobody, Task]] = {}
        self._tries: dict[str, int] = {}
        self._accidents = 0
        self._latest = time.perf_counter()

    def paint(self, tasks: list[Task], signals: list[int]) -> None:
        """Paint all tasks; a signal ends it between two steps.

        Raises:
            BatchFailed: after ten accidents one after the other.
            OSError: if a picture cannot be written.
        """
        waiting = list(reversed(tasks))
        writing: list[Future[None]] = []
        with ThreadPoolExecutor(_WRITERS) as writers:
            while (waiting or self._asked) and not signals:
                while waiting and len(self._asked) < _AHEAD * self._engine.capacity:
                    self._ask(waiting.pop())
                for watch, result in self._engine.step():
                    _, task = self._asked.pop(id(watch))
                    if isinstance(result, GeneratedImage):
                        self._accidents = 0
                        seconds = self._seconds()
                        writing.append(writers.submit(self._write, task, result, seconds))
                    elif self._is_again(task, result):
                        waiting.insert(0, task)
                while len(writing) > _MOST_UNWRITTEN or (writing and writing[0].done()):
                    writing.pop(0).result()
            for written in writing:
                written.result()

    def _ask(self, task: Task) -> None:
        watch = Nobody()
        self._asked[id(watch)] = watch, task
        self._engine.add(task.request, watch)

    def _is_again(self, task: Task, error: EaselError) -> bool:
        """Note a failure; return whether the picture is worth another try."""
        self._tries[task.file] = self._tries.get(task.file, 0) + 1
        if error.status == 500:
            self._accidents += 1
            if self._accidents >= _MOST_ACCIDENTS:
                raise BatchFailed(f"Ten pictures failed one after the other: {error}")
            if self._tries[task.file] < _TRIES:
                return True
        self._failures.add(task, error)
        return False

    def _seconds(self) -> float:
        """Return the seconds since the picture before: several are painted at a time."""
        now = time.perf_counter()
        seconds, self._latest = now - self._latest, now
        return seconds

    def _write(self, task: Task, image: GeneratedImage, seconds: float) -> None:
        path = self._folder / task.file
        unfinished = path.with_name(f"{path.name}.writing")
        unfinished.write_bytes(encode_file(image))
        # Before the picture, so that whoever sees that finds this.
        row = json.dumps({"file": task.file, "seconds": round(seconds, 3)})
        with (self._folder / PAINTED).open("a", encoding="utf-8") as file:
            file.write(f"{row}\n")
        unfinished.replace(path)


def sentence(error: Exception) -> str:
    """Return what a person can act on."""
    if isinstance(error, BatchFailed | EaselError):
        return str(error)
    if isinstance(error, InvalidField):
        return f"lines.jsonl: {error}."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full; start the job with a larger volume."
    return f"The batch failed: {type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
