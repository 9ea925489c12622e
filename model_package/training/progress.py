"""`progress.jsonl`: a line for each step, next to the checkpoints, where it is mirrored to S3."""

from __future__ import annotations

import json
from pathlib import Path


class Progress:
    """Appends lines; a resumed run first cuts those after its checkpoint.

    Args:
        path: of the file.
        step: of the checkpoint, or 0.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _lines(path) if _is_before(line, step)]
        unfinished = path.with_suffix(".writing")
        try:
            unfinished.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def add(self, step: int, **values: float) -> None:
        """Append a line and print it."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        shown = " ".join(f"{name}={value:.6g}" for name, value in values.items())
        print(f"step={step} {shown}", flush=True)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _is_before(line: str, step: int) -> bool:
    """Whether a line is of the steps before the checkpoint; its own validation is repeated."""
    try:
        values = json.loads(line)
        return values["step"] < step or (values["step"] == step and "loss" in values)
    except (ValueError, KeyError, TypeError):
        return False  # the machine ended while it was written
