"""Checkpoints that survive an interruption while they are written.

A file is the SHA-256 of its content followed by the content. It is written under another name and
renamed. A file with a wrong digest (after a full disk or a power failure) is skipped.
"""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

DIGEST_BYTES = 32
KEPT = 2  # the newest, and the one before it in case the newest is damaged


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint atomically and delete all but the newest ones."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:07}.pt"
    content = io.BytesIO()
    torch.save(state, content)
    unfinished = path.with_suffix(".writing")
    try:
        with unfinished.open("wb") as file:
            file.write(hashlib.sha256(content.getbuffer()).digest())
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:  # a full disk must not leave half of it
        unfinished.unlink(missing_ok=True)
    for old in sorted(folder.glob("step-*.pt"))[:-KEPT]:
        old.unlink()
    return path


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint's state, or None if the file is damaged."""
    data = path.read_bytes()
    digest, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def load_newest(folder: Path) -> dict[str, Any] | None:
    """Return the state of the newest intact checkpoint, or None if there is none."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        state = read_checkpoint(path)
        if state is not None:
            return state
        print(f"{path.name} is damaged and is skipped")
    return None
