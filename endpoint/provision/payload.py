"""The files that an endpoint is given below one S3 prefix: its code, and weights if wanted.

The prefix is named by the content of the files, so a file that is there is the right one, and an
upload that broke off goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from endpoint.aws.bucket import Bucket
from endpoint.core.naming import digest
from endpoint.core.problems import BadArgument

CODE = Path(__file__).parents[2] / "model_package" / "code"
_CODE_SUFFIXES = {".py", ".json", ".txt"}


@dataclass(frozen=True)
class File:
    """A file on this machine and its place below the prefix."""

    path: Path
    place: str
    size: int
    sha256: str

    @classmethod
    def read(cls, path: Path, place: str) -> File:
        """Look at a file, reading all of it once."""
        with path.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        return cls(path, place, path.stat().st_size, content)


def code_files(folder: Path | None = None) -> list[File]:
    """Return the serving code's files, with their places below `code/`.

    Args:
        folder: where it is; this repository's by default.

    Raises:
        BadArgument: if there is no inference.py.
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
    content = sorted([file.place, file.sha256] for file in files)
    return f"models/{model}/{digest(content)}/"


def ensure_code(bucket: Bucket, prefix: str, files: list[File]) -> None:
    """Upload the code's files that are not there yet."""
    there = bucket.sizes(prefix)
    for file in files:
        if there.get(prefix + file.place) != file.size:
            bucket.put(prefix + file.place, file.path.read_bytes())


def manifest_key(prefix: str) -> str:
    """Return the key of the list of what lies below a prefix; written when all of it does."""
    return f"manifests/{prefix.removeprefix('models/').rstrip('/')}.json"


def superseded(bucket: Bucket, model: str, prefix: str) -> list[str]:
    """Return the keys of the model's files and manifests that are not the prefix's."""
    keys = [*bucket.sizes(f"models/{model}/"), *bucket.sizes(f"manifests/{model}/")]
    return [key for key in keys if not key.startswith((prefix, manifest_key(prefix)))]
