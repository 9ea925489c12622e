"""One Lambda execution environment: the real Runtime Interface Client in a process of its own.

Started by `lambda_runtime` with the unpacked package and the handler as arguments; AWS's variables
are in its environment.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

from endpoint.emulator.process.orphans import end_with_parent


def main() -> None:
    """Serve as the Lambda, with only the package and the standard library to import."""
    end_with_parent()
    package, handler = Path(sys.argv[1]), sys.argv[2]
    client = _load_client()
    # Installed packages would hide a dependency that is missing from the package. (A real Lambda
    # also has a boto3 of its own, which is older than any package's.)
    sys.path[:] = [entry for entry in sys.path if entry and not _is_foreign(Path(entry))]
    sys.path.insert(0, str(package))
    os.chdir(package)
    client.main(["bootstrap", handler])


def _load_client() -> ModuleType:
    client = importlib.import_module("awslambdaric.__main__")
    # Imported by the client only when it needs them, from where the package cannot see them.
    importlib.import_module("awslambdaric.lambda_runtime_log_utils")
    importlib.import_module("awslambdaric.lambda_runtime_marshaller")
    return client


def _is_foreign(entry: Path) -> bool:
    return entry.name in ("site-packages", "dist-packages") or entry == Path.cwd()


if __name__ == "__main__":
    main()
