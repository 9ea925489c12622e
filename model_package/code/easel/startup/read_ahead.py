"""Read weights from disk while libraries are imported: one waits for the disk, the other computes.

Importing this module starts it for the folder where SageMaker puts a model, so `inference.py`
imports it first. No data is stored here: the operating system caches what was read in free memory,
where the loader, which maps the files, gets it from.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

_MOST = 2**30  # bytes for one call; Linux sends less than 2 GiB
_started: set[Path] = set()


def read_ahead(folder: Path, environ: Mapping[str, str]) -> threading.Thread | None:
    """Start reading a model's weights, once for each folder; return the thread, if one started.

    Args:
        folder: a model's; nothing happens if it does not exist or was read before.
        environ: EASEL_READ_AHEAD=off disables reading.
    """
    if environ.get("EASEL_READ_AHEAD", "").strip().lower() == "off":
        return None
    if folder in _started or not folder.is_dir():
        return None
    _started.add(folder)
    files = weights(folder)
    # More than fits would evict what was read first, which the loader needs first.
    if not files or sum(path.stat().st_size for path in files) > _free_memory():
        return None
    thread = threading.Thread(target=read, args=(files,), name="read-ahead", daemon=True)
    thread.start()
    return thread


def weights(folder: Path) -> list[Path]:
    """Return the files that a loader will most likely read: 16-bit ones if there are both."""
    patterns = ("**/*.safetensors", "**/*.neuron")
    paths = (path for pattern in patterns for path in sorted(folder.glob(pattern)))
    files = [path for path in paths if path.is_file()]
    files = [path for path in files if path.relative_to(folder).parts[0] != "loras"]
    small = [path for path in files if ".fp16." in path.name or ".fp16-" in path.name]
    components = {path.parent for path in small}
    return small + [path for path in files if path.parent not in components]


def read(files: Iterable[Path]) -> int:
    """Read files into the page cache; return the number of bytes read.

    The kernel sends them to /dev/null without a copy. This takes Python's lock once for each
    gibibyte; reading into a buffer would take it all the time, and a thread that imports releases
    it only every 5 ms.
    """
    total = 0
    with Path(os.devnull).open("wb", buffering=0) as sink:
        for path in files:
            try:
                with path.open("rb", buffering=0) as opened:
                    total += _send(opened.fileno(), sink.fileno())
            except OSError:  # the loader will fail on the same file and report it
                break
    return total


def _send(source: int, target: int) -> int:
    sent = 0
    while count := os.sendfile(target, source, sent, _MOST):
        sent += count
    return sent


def _free_memory() -> int:
    """Return the bytes that are free or can be freed; 0 except on Linux."""
    path = Path("/proc/meminfo")
    if not path.is_file():
        return 0
    lines = dict(line.split(":", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return int(lines.get("MemAvailable", "0 kB").split()[0]) * 1024


# The toolkit's own variable for the folder that holds the model's.
read_ahead(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")) / "model", os.environ)
