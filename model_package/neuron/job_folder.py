"""The folder of a training job: what SageMaker reads there besides the results."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

_LONGEST_FAILURE = 1_000  # SageMaker shows 1,024 characters


def gpu_problem(home: Path) -> str | None:
    """Return why the job should end at once, instead of computing on a CPU for days.

    Args:
        home: /opt/ml.

    Returns:
        A sentence if the instance has a GPU that torch does not see; else None.
    """
    path = home / "input" / "config" / "resourceconfig.json"
    if torch.cuda.is_available() or not path.is_file():
        return None
    kind = json.loads(path.read_text(encoding="utf-8")).get("current_instance_type", "")
    if not str(kind).startswith(("ml.g", "ml.p")):
        return None
    return (
        f"torch sees no GPU on {kind}: its driver may be older than the image's CUDA; use another "
        "image."
    )


def fail(home: Path, text: str) -> None:
    """Write the failure where SageMaker looks for it."""
    text = " ".join(text.split())[:_LONGEST_FAILURE]
    print(text, file=sys.stderr, flush=True)
    (home / "output").mkdir(parents=True, exist_ok=True)
    (home / "output" / "failure").write_text(text, encoding="utf-8")
