"""Easel's own model server, as its image runs it: `model_package/server/` in a process of its own.

Started as a module, this is that process.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import urllib3

from endpoint.emulator.process.orphans import end_with_parent
from endpoint.emulator.process.processes import ROOT, Child, free_port

_MODEL_PACKAGE = ROOT / "model_package"
# A script imports torch and loads a model before /ping is 200.
_READY_SECONDS = 300.0


@dataclass(frozen=True)
class EaselServer:
    """A server that has been started.

    Attributes:
        url: its address, without a slash at the end.
        child: its process.
    """

    url: str
    child: Child

    def ready(self) -> bool:
        """Whether /ping is 200: only then does SageMaker send requests to a container."""
        try:
            answer = urllib3.request("GET", f"{self.url}/ping", retries=False, timeout=5.0)
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200


def start(
    code: Path,
    model_dir: Path,
    environment: Mapping[str, str],
    *,
    port: int = 0,
    output: IO[bytes] | int | None = None,
) -> EaselServer:
    """Start a server on 127.0.0.1; its caller waits for `ready`, and stops `child`.

    Args:
        code: the folder with the script.
        model_dir: the model's folder, as `model_fn` gets it.
        environment: all variables of the process; see `model_package/server/settings.py`.
        port: 0 for any free one.
        output: where its log goes.
    """
    port = port or free_port()
    arguments = ["serve", "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--code", str(code), "--model", str(model_dir)]
    child = Child("the model server", __name__, arguments, environment=environment, output=output)
    return EaselServer(f"http://127.0.0.1:{port}", child)


@contextmanager
def serving(
    code: Path,
    model_dir: Path,
    environment: Mapping[str, str],
    *,
    port: int = 0,
    output: IO[bytes] | int | None = None,
) -> Iterator[EaselServer]:
    """Serve while the context lasts; see `start`.

    Raises:
        ChildEnded: if the script or the model cannot be loaded.
        TimeoutError: if that takes too long.
    """
    server = start(code, model_dir, environment, port=port, output=output)
    with server.child:
        server.child.wait_until(server.ready, _READY_SECONDS)
        yield server


def main() -> None:
    """Be the server's process; the arguments are those of `python -m server`."""
    end_with_parent()
    # A container has nothing of this repository but the model package.
    sys.path[:] = [entry for entry in sys.path if entry not in ("", str(Path.cwd()))]
    sys.path.insert(0, str(_MODEL_PACKAGE))
    runpy.run_module("server", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
