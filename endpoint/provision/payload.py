"""The files of an endpoint below one S3 prefix: its code, and its weights if requested.

The prefix contains a hash of the files' content. So a file that exists there is the right one, and
an interrupted upload continues where it stopped.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from endpoint.aws.bucket import Bucket
from endpoint.core.naming import digest
from endpoint.core.problems import BadArgument

CODE = Path(__file__).parents[2] / "model_package" / "code"
# Tests, caches and editors' files stay here.
_CODE_SUFFIXES = {".py", ".json", ".txt"}


@dataclass(frozen=True)
class File:
    """A local file, and its path below the prefix."""

    path: Path
    place: str
    size: int
    sha256: str

    @classmethod
    def read(cls, path: Path, place: str) -> File:
        """Describe a file; reads all of it once."""
        with path.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        return cls(path, place, path.stat().st_size, content)


def code_files(folder: Path | None = None) -> list[File]:
    """Return the files of the serving code, those in subfolders included; places are below `code/`.

    Args:
        folder: the code; this repository's by default.

    Raises:
        BadArgument: if the folder has no inference.py.
    """
    folder = folder or CODE
    if not (folder / "inference.py").is_file():
        raise BadArgument(f"{folder} has no inference.py.")
    return [
        File.read(path, f"code/{path.relative_to(folder).as_posix()}")
        for path in sorted(folder.rglob("*"))
        if path.suffix in _CODE_SUFFIXES and "__pycache__" not in path.parts and path.is_file()
    ]


def prefix_of(model: str, files: list[File]) -> str:
    """Return the prefix for exactly these files: `models/<model>/<hash>/`."""
    # Sorted, so that the order of the files does not change the hash.
    content = sorted([file.place, file.sha256] for file in files)
    return f"models/{model}/{digest(content)}/"


def ensure_code(bucket: Bucket, prefix: str, files: list[File]) -> None:
    """Upload the code files that the bucket does not have yet."""
    stored = bucket.sizes(prefix)
    for file in files:
        # The size suffices: the prefix already stands for the content, so a difference means that
        # the upload did not finish.
        if stored.get(prefix + file.place) != file.size:
            bucket.put(prefix + file.place, file.path.read_bytes())


def manifest_key(prefix: str) -> str:
    """Return the key of the list of a prefix's files; the list is written after the last file."""
    return f"manifests/{prefix.removeprefix('models/').rstrip('/')}.json"


def superseded(bucket: Bucket, model: str, prefix: str) -> list[str]:
    """Return the keys of the model's files and manifests that belong to other prefixes."""
    keys = [*bucket.sizes(f"models/{model}/"), *bucket.sizes(f"manifests/{model}/")]
    return [key for key in keys if not key.startswith((prefix, manifest_key(prefix)))]
