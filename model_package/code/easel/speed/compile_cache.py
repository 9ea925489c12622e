"""Compiled code that is shipped with a model, so that no start compiles.

One archive for each kind of machine, made by `model_package/compile_cache.py` on such a machine. An
archive holds code that is run, as the model's code folder does: take none from strangers.

torch finds compiled code by a hash of what was traced, and the layers of `easel.speed.eight_bits`
are in it with their module's path. Code of another version or layout would find nothing in the
archive and compile for minutes at each start, so an archive says which code it was made by and is
refused by any other. Make it again after an update that changes one of `_TRACED`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from easel import log

SUFFIX = ".tar.gz"
# In the archive: which code made it. Archives from before the first such note have none.
_NOTE = "easel-code.json"
# The modules, below `easel`, that decide what torch traces and how it compiles that.
_TRACED = ("speed/compiler.py", "speed/eight_bits.py")


def machine_key() -> str:
    """Return the name of a cache for this machine: its libraries, and its GPU or CPU."""
    parts = [f"torch{torch.__version__}", f"python{platform.python_version()}"]
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        parts += [f"cuda{torch.version.cuda}", torch.cuda.get_device_name(), f"sm{major}{minor}"]
    else:
        parts.append(f"{platform.machine()}-{_cpu()}")
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts))


def _cpu() -> str:
    """Return a hash of the CPU's instruction sets; compiled code may use all of them."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    flags = sorted({line for line in text.splitlines() if line.startswith(("flags", "model name"))})
    return hashlib.sha256("\n".join(flags).encode()).hexdigest()[:8]


def cache_folder() -> Path:
    """Return the folder where torch stores compiled code for this kind of machine.

    The path is the same where a cache is made and where it is used, because compiled code contains
    paths. It is in the user's own home, because torch runs what is stored there.
    """
    return Path.home() / ".cache" / "easel" / "compiled" / machine_key()


def code_key() -> str:
    """Return a hash of the paths and the source of the modules that compiled code depends on."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in _TRACED:
        digest.update(f"{package.name}/{path}\0".encode() + (package / path).read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def use_cache(folders: Sequence[Path]) -> str | None:
    """Unpack the archive that fits this machine and this code.

    Args:
        folders: searched in this order; the first archive for this machine counts.

    Returns:
        Why no archive is used; None if one is. An archive that exists and is refused is also
        logged as `compile_cache_refused`.
    """
    archives = [folder / f"{machine_key()}{SUFFIX}" for folder in folders]
    archive = next((path for path in archives if path.is_file()), None)
    if archive is None:
        return f"no cache came with the model for {machine_key()}"
    try:
        refusal = _unpack(archive)
    except (OSError, tarfile.TarError) as error:
        refusal = f"the cache that came with the model cannot be unpacked: {error}"
    if refusal:
        log.event("compile_cache_refused", archive=archive, reason=refusal)
    return refusal


def _unpack(archive: Path) -> str | None:
    """Unpack an archive into torch's cache, unless other code made it; return why not."""
    with tarfile.open(archive) as opened:
        if _made_by(opened) != code_key():
            return (
                "the cache that came with the model was made by another version of Easel's code; "
                "run model_package/compile_cache.py again"
            )
        point_torch_at(cache_folder())
        opened.extractall(cache_folder(), filter="data")
    return None


def _made_by(archive: tarfile.TarFile) -> str | None:
    """Return the `code_key` of the code that made an archive; None if it has no readable note."""
    try:
        note = archive.extractfile(_NOTE)
        content = json.load(note) if note else None
    except (KeyError, ValueError):
        return None
    return content.get("code") if isinstance(content, dict) else None


def point_torch_at(folder: Path) -> None:
    """Make torch and Triton store compiled code in a folder that only this user can write to."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")


def save_cache(folder: Path) -> Path:
    """Pack torch's compiled code into an archive in `folder`, named for this machine; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{machine_key()}{SUFFIX}"
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        packed = Path(temporary) / archive.name
        note = Path(temporary) / _NOTE
        note.write_text(json.dumps({"code": code_key()}), encoding="utf-8")
        with tarfile.open(packed, "w:gz", compresslevel=6) as opened:
            opened.add(note, arcname=_NOTE)  # first, where it is read without the rest
            opened.add(cache_folder(), arcname=".")
        shutil.move(packed, archive)  # so that no half-written archive is left
    return archive
