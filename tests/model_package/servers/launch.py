"""The servers that serve Easel's code on SageMaker, each started with the same model and script."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pytest

from endpoint.emulator.container import easel_server
from endpoint.emulator.container.model_server import ModelServer
from endpoint.emulator.process.processes import ChildEnded, free_port
from tests import containers
from tests.model_package.installed import RAY_SERVE, SERVING_TOOLKIT, install, old_libraries
from tests.model_package.servers.cases import LARGEST_REQUEST
from tests.packages import ROOT

PACKAGE = ROOT / "model_package"
SCRIPTS = Path(__file__).parent / "script"
# Starting Ray or Java on a busy machine.
PATIENCE = 300.0
DEFAULTS = '{"steps": 2, "width": 64, "height": 64}'


# What `serving.main()` of the toolkit needs outside of a container: a place for its settings, which
# it writes to /etc otherwise.
TOOLKIT = """
import sys
from sagemaker_inference import model_server
from sagemaker_huggingface_inference_toolkit import mms_model_server, serving
model_server.MMS_CONFIG_FILE = mms_model_server.MMS_CONFIG_FILE = sys.argv[1]
serving.main()
"""


@dataclass
class Answer:
    """A response; all of its fields are None if the connection was closed without one."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Server:
    """A running server.

    Attributes:
        port: its port on 127.0.0.1.
        home: the folder of the script's own files.
        log: returns what the server wrote.
        ended: whether its main process has ended.
    """

    port: int
    home: Path
    log: Callable[[], str]
    ended: Callable[[], bool]

    def ask(
        self, body: bytes, headers: Mapping[str, str], path: str = "/invocations",
        method: str = "POST",
    ) -> Answer:  # fmt: skip
        """Send exactly these headers, besides Host and Content-Length."""
        connection = self.connect(body, headers, path, method)
        try:
            response = connection.getresponse()
            lowered = {name.lower(): text for name, text in response.getheaders()}
            return Answer(response.status, lowered, response.read())
        except (http.client.HTTPException, ConnectionError):
            return Answer()
        finally:
            connection.close()

    def connect(
        self, body: bytes, headers: Mapping[str, str], path: str = "/invocations",
        method: str = "POST",
    ) -> http.client.HTTPConnection:  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, text in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, text)
        connection.endheaders(body)
        return connection

    def paint(self, **fields: object) -> Answer:
        headers = {"Content-Type": "application/json", "Accept": "image/png"}
        return self.ask(json.dumps({"prompt": "a cat", "seed": 7, **fields}).encode(), headers)

    def ping(self) -> int | None:
        try:
            return self.ask(b"", {}, "/ping", "GET").status
        except OSError:
            return None

    def calls(self) -> int:
        """Return how often the UNet was called for slow images."""
        file = self.home / "calls"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def until(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.log()[-8_000:]
            time.sleep(0.05)


def make_base(folder: Path, model: Path) -> Path:
    """Return a folder like /opt/ml: the model, and the code with the script of faults."""
    shutil.copytree(model, folder / "model")
    hidden = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE / "code", folder / "model" / "code", ignore=hidden)
    for name in ("faults.py", "widths.py"):
        shutil.copy(SCRIPTS / name, folder / "model" / "code")
    return folder


def settings(home: Path) -> dict[str, str]:
    """Return the variables of the container that matter to the suite."""
    return {
        "SAGEMAKER_PROGRAM": "faults.py",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
        "MMS_MAX_REQUEST_SIZE": str(LARGEST_REQUEST),
        "MMS_MAX_RESPONSE_SIZE": str(100 * 1024 * 1024),
        "EASEL_DEFAULTS": DEFAULTS,
        "EASEL_BATCH": "4",
        # The metadata names the version of diffusers, which differs.
        "EASEL_METADATA": "off",
        "FAULTS_FOLDER": str(home),
    }


@contextmanager
def easel(
    base: Path, home: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Server]:
    """Easel's own server, as a process; with more variables than `settings`, or other values."""
    log = home / "log"
    with log.open("wb") as output:
        environment = {**os.environ, **settings(home), **variables}
        model = base / "model"
        server = easel_server.start(model / "code", model, environment, output=output)
        port = int(server.url.rpartition(":")[2])
        with server.child:
            yield Server(port, home, log.read_text, lambda: _ended(server.child.check))


def _ended(check: Callable[[], object]) -> bool:
    try:
        check()
    except ChildEnded:
        return True
    return False


@contextmanager
def container(base: Path, home: Path) -> Iterator[Server]:
    """Easel's own server, in the built image."""
    variables = {**settings(home), "FAULTS_FOLDER": "/faults"}
    options = [f"--env={name}={text}" for name, text in variables.items()]
    options += [f"--volume={home}:/faults"]
    with (
        containers.image() as image,
        containers.Container(image, *options, model=base / "model") as running,
    ):
        port = int(running.url.rpartition(":")[2])

        def ended() -> bool:
            state = containers.run(
                "podman", "inspect", "--format", "{{.State.Status}}", running.name
            )
            return state.stdout.strip() == "exited"

        yield Server(port, home, running.log, ended)


@contextmanager
def imitation(base: Path, home: Path) -> Iterator[Server]:
    """The emulator's imitation of the Hugging Face toolkit."""
    model = base / "model"
    server = ModelServer(model / "code", model, {**os.environ, **settings(home)})
    with server.serve() as running:
        yield Server(int(running.url.rpartition(":")[2]), home, str, lambda: False)


@contextmanager
def toolkit(
    base: Path, home: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Server]:
    """The real Hugging Face toolkit with multi-model-server, in Java; variables as for `easel`."""
    if not shutil.which("java"):
        pytest.skip("java not installed; `./setup.sh test --all` installs it as root on Debian")
    libraries = [install("serving-toolkit", SERVING_TOOLKIT), *old_libraries("4.51.3")]
    port = _low_port()
    address = f"http://127.0.0.1:{port}"
    variables = {
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "MMS_INFERENCE_ADDRESS": address,
        "MMS_MANAGEMENT_ADDRESS": address,
        "LOG_LOCATION": str(home),
        "METRICS_LOCATION": str(home),
        "TEMP": str(home),
        # Where a worker gets its code first.
        "PATH": os.pathsep.join([str(libraries[0] / "bin"), os.environ["PATH"]]),
        **variables,
    }
    command = ["-W", "ignore", "-c", TOOLKIT, str(home / "mms.properties")]
    with _process(command, home, libraries, variables) as server:
        yield Server(port, home, *server)


def _low_port() -> int:
    """Return a free port that the Java server accepts: none above 32,767."""
    for port in range(18_080, 2**15 - 1):
        with socket.socket() as trial, suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port below 32,767")


@contextmanager
def ray_serve(base: Path, home: Path) -> Iterator[Server]:
    """Ray Serve, as AWS's image runs it."""
    libraries = [install("ray-serve", RAY_SERVE)]
    model = home / "model"
    shutil.copytree(base / "model", model)
    for name in ("config.yaml", "deployment.py"):
        shutil.copy(PACKAGE / "ray_serve" / name, model)
    shutil.copytree(PACKAGE / "server", model / "server")
    inner, outer = free_port(), free_port()
    variables = {"SAGEMAKER_BASE_DIR": str(home), "RAY_USAGE_STATS_ENABLED": "0"}
    paths = [model, model / "code", *libraries]
    with ExitStack() as stack:
        command = [str(SCRIPTS / "ray_image.py"), str(model / "config.yaml"), str(inner)]
        server = stack.enter_context(_process(command, home, paths, variables))
        command = ["-m", "tests.model_package.servers.ray_adapter", str(inner), str(outer)]
        adapter = home / "adapter"
        adapter.mkdir()
        stack.enter_context(_process(command, adapter, [ROOT], {}))
        yield Server(outer, home, *server)


@contextmanager
def _process(
    command: list[str], home: Path, folders: list[Path], variables: Mapping[str, str]
) -> Iterator[tuple[Callable[[], str], Callable[[], bool]]]:
    """Run Python in a process group of its own, which is killed at the end."""
    log = home / "log"
    environment = {**os.environ, **settings(home), **variables}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=home, env=environment, stdout=output,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            yield lambda: log.read_text("utf-8", "replace"), lambda: process.poll() is not None
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
