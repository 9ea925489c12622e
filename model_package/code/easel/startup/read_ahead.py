"""Reading weights from disk while libraries are imported: both take seconds, and neither the other.

Importing this module starts it, for the folder where SageMaker puts a model; so `inference.py` does
that before anything else. Nothing is kept here: the operating system keeps what was read in memory
that is free, where the model's loader, which maps the files, finds it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

_MOST = 2**30  # bytes at once; Linux sends less than 2 GiB
_started: set[Path] = set()


def read_ahead(folder: Path, environ: Mapping[str, str]) -> threading.Thread | None:
    """Start reading a model's weights, once per folder; return the thread, or None without one.

    Args:
        folder: a model's; one that is not there, or that was read before, is left alone.
        environ: where EASEL_READ_AHEAD=off switches it off.
    """
    if environ.get("EASEL_READ_AHEAD", "").strip().lower() == "off":
        return None
    if folder in _started or not folder.is_dir():
        return None
    _started.add(folder)
    files = weights(folder)
    # More than fits would push out what was read first, which is what the loader wants first.
    if not files or sum(path.stat().st_size for path in files) > _free_memory():
        return None
    thread = threading.Thread(target=read, args=(files,), name="read-ahead", daemon=True)
    thread.start()
    return thread


def weights(folder: Path) -> list[Path]:
    """Return the files that a loader will most likely read: 16-bit ones where there are both."""
    found = sorted(path for path in folder.glob("**/*.safetensors") if path.is_file())
    found = [path for path in found if path.relative_to(folder).parts[0] != "loras"]
    small = [path for path in found if ".fp16." in path.name or ".fp16-" in path.name]
    halved = {path.parent for path in small}
    return small + [path for path in found if path.parent not in halved]


def read(files: Iterable[Path]) -> int:
    """Bring files into the page cache; return how many bytes were read.

    The kernel sends them to nowhere: no copy is made, and Python's lock is asked for once per
    gibibyte, where reading into a buffer would ask for it all the time, and an importing thread
    lets it go every 5 ms only.
    """
    total = 0
    with Path(os.devnull).open("wb", buffering=0) as nowhere:
        for path in files:
            try:
                with path.open("rb", buffering=0) as opened:
                    total += _send(opened.fileno(), nowhere.fileno())
            except OSError:  # whoever loads the model will meet it, and say so
                break
    return total


def _send(source: int, target: int) -> int:
    sent = 0
    while count := os.sendfile(target, source, sent, _MOST):
        sent += count
    return sent


def _free_memory() -> int:
    """Return the bytes that are free or hold what can be read again; only Linux tells."""
    path = Path("/proc/meminfo")
    if not path.is_file():
        return 0
    lines = dict(line.split(":", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return int(lines.get("MemAvailable", "0 kB").split()[0]) * 1024


read_ahead(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")) / "model", os.environ)
