"""The jobs that exist, those of the gateway included: their records, states and progress."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endpoint.cli.context import Context
from endpoint.core.console import elapsed
from endpoint.core.problems import BadArgument
from endpoint.core.training_jobs import places, progress, state
from endpoint.core.training_jobs.progress import Progress
from endpoint.core.training_jobs.state import Record, State


@dataclass(frozen=True)
class JobStatus:
    """A job as it is now.

    Attributes:
        record: the job's.
        state: of it.
        progress: what it has written.
        samples: the keys of its sample sheets, by step.
    """

    record: Record
    state: State
    progress: Progress
    samples: dict[int, str]

    @property
    def cost(self) -> float:
        """USD so far: what is billed, or at least what the steps took."""
        billed = (self.state.billed_seconds or 0.0) / 3_600 * self.record.usd_per_hour
        return max(self.record.spent + billed, self.progress.cost)

    def to_dict(self, bucket: str) -> dict[str, Any]:
        """Return it for --json, with the names that the gateway uses."""
        record, name = self.record, self.state.name
        return {
            "id": record.id,
            "name": record.name,
            "model": record.model,
            "state": name,
            "step": self.progress.step,
            "steps": record.steps,
            "loss": progress.thinned(self.progress.loss, 500),
            "validation": progress.thinned(self.progress.validation, 500),
            "samples": [f"s3://{bucket}/{key}" for key in self.samples.values()],
            "cost": {"so_far": round(self.cost, 4), "most": round(record.usd_most, 4)},
            "seconds_left": self.progress.seconds_left(record.steps),
            "result": (
                f"s3://{bucket}/{places.adapter(record.model, record.name)}"
                if name == "published"
                else None
            ),
            "error": self.state.error or None,
        }

    def line(self) -> str:
        """Return where it is, in one line."""
        parts = [f"{self.state.name}, step {self.progress.step:,} of {self.record.steps:,}"]
        if self.progress.loss:
            parts.append(f"loss {progress.smoothed(self.progress.loss)[-1][1]:.4f}")
        if self.progress.seconds_per_step and self.state.name == "training":
            parts.append(f"{self.progress.seconds_per_step:.2f} s per step")
            parts.append(f"{elapsed(self.progress.seconds_left(self.record.steps) or 0)} left")
        parts.append(f"{self.cost:.2f} of at most {self.record.usd_most:.2f} USD")
        return ", ".join(parts)


def read(context: Context, identifier: str) -> Record | None:
    """Return a job's record; None if there is none."""
    content = context.bucket.get(places.record(identifier))
    if content is None:
        return None
    try:
        return Record.from_json(content)
    except ValueError:
        return None


def every(context: Context) -> list[Record]:
    """Return the records of all jobs, those of the gateway included; the newest first."""
    keys = [key.removeprefix(places.JOBS).split("/") for key in context.bucket.sizes(places.JOBS)]
    identifiers = [key[0] for key in keys if key[1:] == ["record.json"] and places.is_id(key[0])]
    found = [read(context, one) for one in identifiers]
    return sorted(filter(None, found), key=lambda record: -record.created)


def find(context: Context, text: str) -> Record:
    """Return the job with this id, or the newest one whose adapter has this name.

    Raises:
        BadArgument: if there is none.
    """
    record = read(context, text) if places.is_id(text) else None
    record = record or next((one for one in every(context) if one.name == text), None)
    if record is None:
        raise BadArgument(
            f"There is no training job {text!r}.", "`python -m endpoint train --list` lists all."
        )
    return record


def check(context: Context, record: Record) -> JobStatus:
    """Return the status that a job has now."""
    described = context.training.find(record.sagemaker_job) if record.sagemaker_job else None
    lines = context.bucket.get(places.progress(record.id)) or b""
    sheets = {
        step: key
        for key in context.bucket.sizes(places.samples(record.id))
        if (step := places.step_of_sample(key)) is not None
    }
    return JobStatus(
        record,
        state.state_of(record, described),
        progress.read(lines.decode(errors="replace")),
        dict(sorted(sheets.items())),
    )


def download(context: Context, key: str, folder: Path) -> Path:
    """Store an object in a folder, unless it is there; return its path."""
    path = folder / key.rpartition("/")[2]
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(context.bucket.get(key) or b"")
    return path
