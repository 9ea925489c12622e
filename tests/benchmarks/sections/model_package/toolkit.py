"""The model server against the Hugging Face toolkit, which generates one image after another.

    python -m tests.benchmarks.sections.model_package.toolkit [--rounds 3]

Both servers are processes with the same model and script: Easel's own, and the real toolkit with
multi-model-server, in an environment of its own (tests/model_package/servers/launch.py). Needs
Java.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.lib.cpu_time import cpu_time
from tests.benchmarks.lib.measuring import Samples, in_turns
from tests.benchmarks.lib.model_package.variants import DEMO
from tests.benchmarks.lib.processes import sessions_of
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section
from tests.model_package.servers import launch

CLIENTS = 8
OURS, TOOLKIT = "", "Hugging Face toolkit"
# On a CPU with instructions for them, auto is 16 bits.
MODELS = {"demo": "auto", "demo in 32 bits": "fp32"}
AIM = Aim("ratio", at_least=1.5)
TEXT = """
Images per second of two servers with the bundled model and the same script, over HTTP: Easel's own,
and the Hugging Face toolkit with multi-model-server as in AWS's images, which passes one request at
a time to the model. Each client requests its next image as soon as it has one, with the model's
default size, steps and guidance scale. Both servers run at the same time and are measured in turns,
so the other one is idle. Both compute on one thread: on a busy machine, threads that wait for one
another would slow down single images more than batches. Easel's chooses the size of its batches
when it starts (`EASEL_BATCH=auto`). The processor time is that of all processes of the servers and
of the clients; other work on the machine changes it less than the images per second.
"""

DETAILS = """
What batches can gain in 32 bits is limited by the processor: on the AMD EPYC with AVX-512 where
this was measured, a step of the UNet alone takes 21.4 ms for each image in batches of 1, 17.1 ms in
batches of 2, 15.3 ms of 4 and 14.2 ms of 8, on one thread. So 8 gains too little over 4 to be
chosen, and everything else about an image does not gain. On a GPU, nothing of this was measured.
"""


@dataclass(frozen=True)
class Load:
    """What some clients got, and what it took.

    Attributes:
        rate: images per second.
        processor: seconds of processor time for each image.
    """

    rate: float
    processor: float


@contextmanager
def servers(dtype: str) -> Iterator[Mapping[str, launch.Server]]:
    """Serve the bundled model twice, in a number type; both generate images already."""
    variables = {
        "SAGEMAKER_PROGRAM": "inference.py",
        "EASEL_BATCH": "auto",
        "EASEL_DEFAULTS": "",
        "EASEL_DTYPE": dtype,
        "OMP_NUM_THREADS": "1",
    }
    starts = {OURS: launch.easel, TOOLKIT: launch.toolkit}
    with TemporaryDirectory() as folder, ExitStack() as stack:
        base = launch.make_base(Path(folder) / "opt", DEMO)
        running = {}
        for name, start in starts.items():
            home = Path(folder) / (name or "easel").replace(" ", "-")
            home.mkdir()
            running[name] = stack.enter_context(start(base, home, variables))
        for server in running.values():
            server.until(partial(_generates, server))
        yield running


def _generates(server: launch.Server) -> bool:
    return server.ping() == 200 and _image(server, 0) is not None


def _image(server: launch.Server, seed: int) -> bytes | None:
    answer = server.ask(
        json.dumps({"prompt": "a cat", "seed": seed}).encode(),
        {"Content-Type": "application/json", "Accept": "image/png"},
    )
    return answer.body if answer.status == 200 else None


def load(server: launch.Server, clients: int, images: int) -> Load:
    """Have clients request so many images in all.

    Raises:
        RuntimeError: if one of the responses is not an image.
    """
    # The toolkit's Java server is a daemon.
    groups = {"servers": lambda: sessions_of(os.getpid())}
    before, began = cpu_time(groups), time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        bodies = list(pool.map(partial(_image, server), range(images)))
    seconds = time.perf_counter() - began
    if None in bodies:
        raise RuntimeError(server.log()[-4_000:])
    used = cpu_time(groups).since(before).groups["servers"]
    return Load(images / seconds, used / 1_000 / images)


def rows_of(name: str, rounds: int, images: int) -> Iterator[Row]:
    """Measure both servers in one number type of the model."""
    with servers(MODELS[name]) as running:
        health = json.loads(running[OURS].ask(b"", {}, "/health", "GET").body)
        yield Row(f"{name}, size of batches", "", Figure(health["batch"]["capacity"]))
        for server in running.values():
            load(server, CLIENTS, CLIENTS)  # batches of several sizes are new to it
        for clients, count in ((1, images // 2), (CLIENTS, images)):
            loads: dict[str, list[Load]] = {each: [] for each in running}
            turns = {
                each: partial(_measured, server, clients, count, loads[each])
                for each, server in running.items()
            }
            rates = in_turns(turns, rounds)
            aim = AIM if clients == CLIENTS else None
            word = "client" if clients == 1 else "clients"
            yield _row(f"{name}, {clients} {word}", "images/s", rates, aim)
            used = {each: Samples(tuple(load.processor for load in loads[each])) for each in turns}
            yield _row(f"{name}, {clients} {word}, processor time of an image", "s", used)


def _measured(server: launch.Server, clients: int, images: int, loads: list[Load]) -> float:
    """Return the images per second, and keep what was measured."""
    loads.append(load(server, clients, images))
    return loads[-1].rate


def _row(what: str, unit: str, samples: Mapping[str, Samples], aim: Aim | None = None) -> Row:
    ours, theirs = Figure.of(samples[OURS]), Figure.of(samples[TOOLKIT])
    return Row(what, unit, ours, TOOLKIT, theirs, aim=aim)


def section(quick: bool = False, rounds: int = 3) -> Section:
    """Measure the bundled model in both number types."""
    images = CLIENTS if quick else 2 * CLIENTS
    rows = [row for name in MODELS for row in rows_of(name, 2 if quick else rounds, images)]
    return Section(
        "The model server against the Hugging Face toolkit",
        TEXT,
        tuple(rows),
        details=DETAILS,
        packages=("torch", "diffusers", "starlette", "uvicorn"),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure two servers with 8 clients.")
    parser.add_argument("--rounds", type=int, default=3, help="at least 2")
    rounds = max(parser.parse_args().rounds, 2)
    print_section(lambda: section(rounds=rounds))


if __name__ == "__main__":
    main()
