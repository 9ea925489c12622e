"""The sources of the serving image, in one zip file whose bytes depend on their content alone.

The tag of the image is a hash of these files: equal sources have an equal tag, so that an image
that exists is the right one.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from endpoint.core.problems import ScriptError

FOLDER = Path(__file__).parents[3] / "model_package"
# What the rule in the template watches, and the project builds.
KEY = "image/source.zip"
# The buildspec reads it: lines of NAME=value.
ENVIRONMENT = "image.env"
_BUILDSPEC = "server/buildspec.yml"
# What the Dockerfile copies; a change of anything else in the folder makes no other image.
PARTS = {"code", "compile_cache.py", "server"}
# Whatever else somebody keeps next to the code.
_WEIGHTS = {".bin", ".ckpt", ".gguf", ".onnx", ".pt", ".pth", ".pyc", ".safetensors"}
_TAG_DIGITS = 16
# The earliest date that a zip file can state.
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Source:
    """The sources of an image.

    Attributes:
        archive: the zip file.
        tag: the tag of the image that is built from them.
        commit: the last commit that changed these sources; None outside a checkout, or if they
            differ from it.
    """

    archive: bytes
    tag: str
    commit: str | None

    @property
    def sha256(self) -> str:
        """The hash of the zip file, which also depends on the commit."""
        return hashlib.sha256(self.archive).hexdigest()


def read(folder: Path | None = None) -> Source:
    """Return the sources in a folder; this repository's by default.

    Raises:
        ScriptError: if the folder has no buildspec.
    """
    folder = folder or FOLDER
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in _files(folder)}
    if _BUILDSPEC not in files:
        raise ScriptError(f"{folder} has no {_BUILDSPEC}.", "Pass an image with --image.")
    commit = _commit(folder)
    tag = _tag(files)
    files[ENVIRONMENT] = f"TAG={tag}\nCOMMIT={commit or ''}\n".encode()
    return Source(_zip(files), tag, commit)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if parts[0] not in PARTS or any(p == "__pycache__" or p.startswith(".") for p in parts):
            continue
        # A link could lead out of the folder.
        if path.is_file() and not path.is_symlink() and path.suffix not in _WEIGHTS:
            yield path


def _tag(files: dict[str, bytes]) -> str:
    content = sorted([name, hashlib.sha256(body).hexdigest()] for name, body in files.items())
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:_TAG_DIGITS]


def _zip(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    # Not compressed: the bytes would depend on the version of zlib.
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, body in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _DATE)
            # Otherwise the system that packs it, and its umask.
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, body)
    return packed.getvalue()


def _commit(folder: Path) -> str | None:
    changed = _git(folder, "status", "--porcelain", "--", ".")
    if changed or changed is None:
        return None
    return _git(folder, "log", "-1", "--format=%H", "--", ".") or None


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints; None if it fails, as outside a checkout, or is not installed."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
