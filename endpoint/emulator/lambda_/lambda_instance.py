"""One Lambda execution environment: the real Runtime Interface Client in a process of its own.

Started by `lambda_runtime` with the unpacked package and the handler as arguments; AWS's variables
are in its environment.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from endpoint.emulator.process.orphans import end_with_parent


def main() -> None:
    """Serve as the Lambda, with only the package and the standard library to import."""
    end_with_parent(also_stopped=True)
    package, handler = Path(sys.argv[1]), sys.argv[2]
    client = _load_client()
    # Installed packages would hide a dependency that is missing from the package. (A real Lambda
    # also has a boto3 of its own, which is older than any package's.)
    sys.path[:] = [entry for entry in sys.path if entry and not _is_foreign(Path(entry))]
    sys.path.insert(0, str(package))
    os.chdir(package)
    _make_read_only(package)
    client.main(["bootstrap", handler])


def _load_client() -> ModuleType:
    client = importlib.import_module("awslambdaric.__main__")
    # Imported by the client only when it needs them, from where the package cannot see them.
    importlib.import_module("awslambdaric.lambda_runtime_log_utils")
    importlib.import_module("awslambdaric.lambda_runtime_marshaller")
    return client


def _make_read_only(folder: Path) -> None:
    """Refuse to write below the folder, as Lambda does, so that no import leaves bytecode there.

    https://docs.aws.amazon.com/lambda/latest/api/API_FunctionCode.html
    """
    # The mode of a folder does not stop root, and a mount needs root.
    folder = folder.resolve()
    flags = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    others = {"os.mkdir", "os.remove", "os.rename", "os.rmdir"}

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        # https://docs.python.org/3/library/audit_events.html: `open` has path, mode and flags, the
        # others begin with a path.
        writes = event in others or (event == "open" and arguments[2] & flags)
        if writes and not isinstance(path := arguments[0], int) and _is_below(path, folder):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    sys.addaudithook(refuse)


def _is_below(path: str | bytes, folder: Path) -> bool:
    return Path(os.fsdecode(path)).resolve().is_relative_to(folder)


def _is_foreign(entry: Path) -> bool:
    return entry.name in ("site-packages", "dist-packages") or entry == Path.cwd()


if __name__ == "__main__":
    main()
