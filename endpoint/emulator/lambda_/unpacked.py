"""A function's package as a folder, which the functions of the same package share.

Most of a package is libraries: a deployment that changes only settings need not unpack thousands of
files again, nor its instances compile them.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import weakref
import zipfile
from pathlib import Path

_lock = threading.Lock()


class UnpackedPackage:
    """A package's content in `folder`, which is deleted when nothing refers to it any more."""

    def __init__(self, package: Path) -> None:
        self.folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        with zipfile.ZipFile(package) as archive:
            archive.extractall(self.folder)


_by_digest: weakref.WeakValueDictionary[str, UnpackedPackage] = weakref.WeakValueDictionary()
# The latest stays between two functions: the next one often has the same package.
_newest: list[UnpackedPackage] = []


def unpack(package: Path) -> UnpackedPackage:
    """Return a zip's content in a folder, which packages with equal content share."""
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    with _lock:
        content = _by_digest.get(digest) or UnpackedPackage(package)
        _by_digest[digest] = content
        _newest[:] = [content]
    return content
