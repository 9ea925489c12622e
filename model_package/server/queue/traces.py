"""Which request has which name, for /progress."""

from __future__ import annotations

from .job import Job, Stage

# SageMaker's InferenceId has at most 64 characters.
_LONGEST = 64
# Finished requests that are remembered, so that a last look still finds them.
_MOST_FINISHED = 100


class Traces:
    """Requests by the name that their callers gave them; the latest of a name counts."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        """Remember a request, if it has a name."""
        if job.trace is None:
            return
        self._jobs.pop(job.trace, None)
        self._jobs[job.trace] = job
        finished = [name for name, each in self._jobs.items() if each.stage is Stage.DONE]
        for name in finished[: max(0, len(finished) - _MOST_FINISHED)]:
            del self._jobs[name]

    def find(self, trace: str) -> Job | None:
        """Return the request of a name."""
        return self._jobs.get(trace)


def as_trace(text: str | None) -> str | None:
    """Return a name that a caller gave; None for one that is no name, which is no error."""
    if not text or len(text) > _LONGEST or not text.isascii() or not text.isprintable():
        return None
    return text
