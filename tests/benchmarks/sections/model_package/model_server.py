"""Easel's model server beyond the model: its processor time, its start, and /ping under load.

    python -m tests.benchmarks.sections.model_package.model_server [--rounds 5]

The overhead is measured with a script that returns one PNG file of 1.5 MB at once, in turns with an
application of Starlette's that does nothing but return the same file, both on uvicorn with h11. The
start is measured as in `start_up.py`: from the start of the process to the first /ping that is 200,
after the warm-up, against plain diffusers with its first image. For /ping, 200 clients request
images at once, from a script whose steps keep Python's lock.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from endpoint.emulator.process.processes import ROOT, free_port
from tests.benchmarks.lib.measuring import Samples, in_turns
from tests.benchmarks.lib.processes import processor_milliseconds
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, figure_of, print_section
from tests.benchmarks.sections.model_package import start_up

# As large as an SDXL image.
BYTES = 1_556_499
_READY_SECONDS = 300.0
_CALLERS = 200
_BARE = f"""
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

FILE = bytes({BYTES})

async def invocations(request):
    await request.body()
    return Response(FILE, media_type="image/png")

async def ping(request):
    return Response()

routes = [Route("/invocations", invocations, methods=["POST"]), Route("/ping", ping)]
uvicorn.run(
    Starlette(routes=routes), port=int(sys.argv[1]), http="h11", loop="asyncio", access_log=False,
    log_level="error", timeout_keep_alive=75,
)
"""
_SCRIPT = f"""
import json, time

FILE = bytes({BYTES})

def model_fn(model_dir): return None
def input_fn(body, content_type): return json.loads(body)
def predict_fn(request, model): return FILE
def output_fn(prediction, accept): return prediction
"""
# Pure Python keeps the interpreter's lock, which torch's kernels release.
_BUSY = """
def predict_fn(request, model):
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        pass
    return b"file"
"""


@contextmanager
def served(script: str | None, *arguments: str, **variables: str) -> Iterator[tuple[int, int]]:
    """Start our server with a script, or the bare application; yield its process and port."""
    with ExitStack() as stack:
        port = free_port()
        command = [sys.executable, "-c", _BARE, str(port)]
        if script is not None:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            (folder / "inference.py").write_text(script, "utf-8")
            arguments = ("--code", str(folder), "--model", str(folder), *arguments)
            command = [sys.executable, "-m", "server", "--port", str(port), *arguments]
        process = stack.enter_context(
            subprocess.Popen(
                command,
                cwd=ROOT / "model_package",
                env={**os.environ, **variables},
                stdout=subprocess.DEVNULL,
            )
        )
        stack.callback(process.kill)
        until_ready(port)
        yield process.pid, port


def until_ready(port: int) -> None:
    """Wait until /ping is 200.

    Raises:
        TimeoutError: if that takes minutes.
    """
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.01)
    raise TimeoutError("the server was not ready")


def processor_per_request(process: int, port: int, requests: int) -> float:
    """Return the milliseconds of processor time that the server uses for one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    before = processor_milliseconds(process)
    for _ in range(requests):
        response = invoke(connection)
        if len(response) != BYTES:
            raise RuntimeError(response[:200])
    connection.close()
    return (processor_milliseconds(process) - before) / requests


def invoke(connection: http.client.HTTPConnection) -> bytes:
    headers = {"Content-Type": "application/json", "Accept": "image/png"}
    connection.request("POST", "/invocations", json.dumps({"prompt": "a cat"}), headers)
    return connection.getresponse().read()


def measure_overhead(rounds: int, requests: int) -> dict[str, Samples]:
    """Return the processor time of a request, ours and the bare application's."""
    with served(_SCRIPT) as ours, served(None) as bare:
        variants: dict[str, Callable[[], float]] = {
            "ours": lambda: processor_per_request(*ours, requests),
            "bare": lambda: processor_per_request(*bare, requests),
        }
        for measure in variants.values():
            measure()  # the first requests import and allocate
        return in_turns(variants, rounds)


def measure_pings(callers: int) -> Samples:
    """Return the milliseconds of each /ping while so many clients wait for images."""
    with served(_SCRIPT + _BUSY) as (_, port):

        def call() -> None:
            invoke(http.client.HTTPConnection("127.0.0.1", port, timeout=120))

        threads = [threading.Thread(target=call, daemon=True) for _ in range(callers)]
        for thread in threads:
            thread.start()
        times = []
        while any(thread.is_alive() for thread in threads):
            began = time.perf_counter()
            until_ready(port)
            times.append((time.perf_counter() - began) * 1_000)
            time.sleep(0.02)
    return Samples(tuple(times))


def measure_starts(width: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds to a served model, ours and plain diffusers' with its first image."""
    environ = {
        "PYTHONPATH": str(start_up.CODE),
        "EASEL_DTYPE": "fp32",
        "EASEL_DEFAULTS": json.dumps({"steps": 2, "width": 64, "height": 64}),
        "OMP_NUM_THREADS": "1",
    }
    seconds: dict[str, list[float]] = {"ours": [], "unbatched": [], "plain": []}
    with TemporaryDirectory() as folder:
        base = Path(folder)
        start_up.make_model(base / "model", width)
        for _ in range(rounds):
            plain = start_up.run(start_up._PLAIN, base, environ)
            seconds["plain"].append(sum(plain.parts[:3]))
            for name, more in (("ours", {}), ("unbatched", {"EASEL_BATCH": "1"})):
                start_up.drop(base)
                variables = {**environ, "SAGEMAKER_BASE_DIR": str(base), **more}
                seconds[name].append(_start(variables))
    return seconds


def _start(variables: dict[str, str]) -> float:
    port = free_port()
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "server", "--port", str(port)],
        cwd=ROOT / "model_package",
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
    ) as process:
        until_ready(port)
        seconds = time.perf_counter() - began
        process.kill()
    return seconds


def measure(width: int, rounds: int, requests: int, callers: int) -> Section:
    """Measure all of it."""
    overhead = measure_overhead(rounds, requests)
    starts = measure_starts(width, rounds)
    pings = measure_pings(callers)
    plain = figure_of(starts["plain"])
    return Section(
        "The model server",
        "What Easel's own model server adds to the model. A request for a PNG file of 1.5 MB that"
        " the script returns at once, on one kept connection, against an application of Starlette's"
        " that does nothing else. The start, from the process to the first /ping that is 200, which"
        " includes a warm-up and measuring the size of batches, against plain diffusers' import,"
        " loading and first image. The longest /ping is that of a server whose script computes in"
        f" Python while {callers} clients wait.",
        (
            Row(
                "processor time of a request",
                "ms",
                Figure.of(overhead["ours"]),
                "bare Starlette",
                Figure.of(overhead["bare"]),
                Aim("value", at_most=1.0),
                "earlier measurements: LitServe 6.8 ms, multi-model-server 2 to 3 ms",
            ),
            Row(
                "start to /ping 200",
                "s",
                figure_of(starts["ours"]),
                "plain diffusers, first image",
                plain,
                Aim("ratio", at_most=1.05),
            ),
            Row(
                "start to /ping 200, EASEL_BATCH=1",
                "s",
                figure_of(starts["unbatched"]),
                "plain diffusers, first image",
                plain,
            ),
            Row(
                f"longest /ping with {callers} waiting clients",
                "ms",
                Figure(max(pings.values)),
                aim=Aim("value", at_most=1_000),
                note=f"median {pings.median:.0f} ms of {len(pings.values)}",
            ),
        ),
        packages=("starlette", "uvicorn", *start_up.PACKAGES),
    )


def section(quick: bool = False) -> Section:
    """Measure, with few requests if `quick`."""
    if quick:
        return measure(width=32, rounds=2, requests=20, callers=20)
    return measure(width=64, rounds=3, requests=300, callers=_CALLERS)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the model server.")
    parser.add_argument("--rounds", type=int, default=5, help="at least 2")
    options = parser.parse_args()
    print_section(lambda: measure(64, max(options.rounds, 2), 300, _CALLERS))


if __name__ == "__main__":
    main()
