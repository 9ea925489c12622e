"""Builds and runs the serving image without a Docker engine: Buildah, Podman with runc, a registry.

All of it needs root, and no systemd. The base image is made by mmdebstrap from Debian's packages,
under the name that the Dockerfile asks for. What pip and apt need of this machine is mounted while
the image is built. Storage and packages are kept in `.cache/image`, for the next run.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
import urllib3

from endpoint.emulator.container.local_image import CONTEXT, DOCKERFILE, IGNORED, image_name
from endpoint.emulator.process.processes import free_port
from tests.packages import ROOT

FOLDER = ROOT / ".cache" / "image"
PROGRAMS = ("buildah", "podman", "runc", "mmdebstrap", "docker-registry")
VARIANT = "cpu"
BASE = "public.ecr.aws/docker/library/debian:bookworm-slim"
DEMO = CONTEXT / "demo" / "weights"
LOCK = CONTEXT / "server" / f"requirements-{VARIANT}.lock"
PYTHON = (3, 11)
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{folder}/running"
"""
# crun and systemd need more rights than a container in a container has.
_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
# The wheels are mounted at the place that the Dockerfile names.
_PIP = "[global]\nno-index = true\nfind-links = /wheels\n"


@contextmanager
def image() -> Iterator[str]:
    """Build the image and return its name, or skip the test where it cannot be built.

    One process at a time: another would unmount, and change, what this one uses. A process can use
    it several times at once.
    """
    _require()
    if not _turns:
        FOLDER.parent.mkdir(exist_ok=True)
        turn = FOLDER.with_suffix(".lock").open("w")
        fcntl.flock(turn, fcntl.LOCK_EX)
    else:
        turn = _turns[-1]
    _turns.append(turn)
    try:
        yield build()
    finally:
        _turns.pop()
        if not _turns:
            _unmount()
            turn.close()


# The open lock, once for each use in this process.
_turns: list[IO[str]] = []


def _require() -> None:
    """Skip the test where the image cannot be built."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        pytest.skip(
            f"{', '.join(missing)} not installed; `./setup.sh test --all` installs them"
            " as root on Debian 12"
        )
    if os.geteuid():
        pytest.skip("building the image without Docker requires root")
    if sys.version_info[:2] != PYTHON:
        pytest.skip("the image's packages are for Python 3.11, and this is another")


def environment() -> dict[str, str]:
    """Return the environment for Buildah and Podman, whose settings are in `.cache/image`."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "storage.conf").write_text(_STORAGE.format(folder=FOLDER), "utf-8")
    (FOLDER / "containers.conf").write_text(_CONTAINERS, "utf-8")
    settings = {"CONTAINERS_STORAGE_CONF": "storage.conf", "CONTAINERS_CONF": "containers.conf"}
    return {**os.environ, **{name: str(FOLDER / file) for name, file in settings.items()}}


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Buildah or Podman."""
    done = subprocess.run(
        command, env=environment(), cwd=FOLDER, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def build(context: Path = CONTEXT, tag: str | None = None, **contexts: Path) -> str:
    """Build the CPU variant as far as it is not built yet, and return its name.

    Args:
        context: the folder that the Dockerfile copies from.
        tag: the name of the image; None for the one that `--image local` looks for.
        contexts: folders for the optional layers, by the names of their stages.
    """
    environment()
    _make_base()
    (FOLDER / "pip.conf").write_text(_PIP, "utf-8")
    tag = tag or image_name(VARIANT)
    command = ["buildah", "bud", "--format", "docker", "--layers", "--isolation", "chroot"]
    command += ["--pull=never", "--network", "host", "--build-arg", f"VARIANT={VARIANT}"]
    command += ["--volume", "/etc/apt:/etc/apt:ro"]
    command += ["--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"]
    command += ["--secret", f"id=pip.conf,src={FOLDER / 'pip.conf'}"]
    for name, folder in {"wheels": _download_wheels(), **contexts}.items():
        command += ["--build-context", f"{name}={folder}"]
    command += ["--ignorefile", str(IGNORED), "--file", str(DOCKERFILE), "--tag", tag]
    run(*command, str(context))
    return tag


def _make_base() -> None:
    if not run("buildah", "inspect", "--type", "image", BASE, check=False).returncode:
        return
    archive = FOLDER / "base.tar"
    # The machine's list of packages' addresses is mounted while the image is built, and not kept.
    run(
        "mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates",
        '--customize-hook=rm "$1/etc/apt/sources.list"', "bookworm", str(archive),
    )  # fmt: skip
    run("podman", "import", "--quiet", str(archive), BASE)
    archive.unlink()


def _download_wheels() -> Path:
    """Return the folder with the wheels of the lock file, fetched with this machine's settings."""
    folder, stamp = FOLDER / "wheels", FOLDER / "wheels" / LOCK.name
    if not stamp.is_file() or stamp.read_bytes() != LOCK.read_bytes():
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(folder), "--requirement", str(LOCK)]
        subprocess.run(command, check=True, capture_output=True)
        shutil.copy(LOCK, stamp)
    return folder


class Container:
    """A running container.

    Attributes:
        name: its name.
        url: its address; empty if it has no network.

    Args:
        image: the image.
        options: options of `podman run`.
        alone: whether it has no network, no writable disk, and no model but the image's own.
        model: the model's folder.
    """

    def __init__(self, image: str, *options: str, alone: bool = False, model: Path = DEMO) -> None:
        port = free_port()
        self.name = f"easel-test-{port}"
        self.url = "" if alone else f"http://127.0.0.1:{port}"
        where = ["--publish", f"127.0.0.1:{port}:8080", "--volume", f"{model}:/opt/ml/model:ro"]
        if alone:
            where = ["--network", "none", "--read-only", "--tmpfs", "/tmp"]  # noqa: S108 - its own
        # One thread, as the tests have: the number can change the last bit of a picture.
        where += ["--env", "OMP_NUM_THREADS=1"]
        run("podman", "run", "--detach", "--name", self.name, *where, *options, image, "serve")

    def ping(self) -> int:
        """Return the status of /ping; 0 if nothing answers."""
        try:
            answer = urllib3.request("GET", f"{self.url}/ping", retries=False, timeout=5)
        except urllib3.exceptions.HTTPError:
            return 0
        return answer.status

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return run("podman", "exec", self.name, *command, check=False)

    def healthy(self) -> bool:
        """Return what the image's own health check says."""
        return not run("podman", "healthcheck", "run", self.name, check=False).returncode

    def wait_until(self, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + 300
        while not ready():
            state = run("podman", "inspect", "--format", "{{.State.Status}}", self.name).stdout
            if state.strip() != "running" or time.monotonic() > until:
                raise RuntimeError(f"{self.name} is not ready:\n{self.log()}")
            time.sleep(0.2)

    def log(self) -> str:
        done = run("podman", "logs", self.name, check=False)
        return done.stdout + done.stderr

    def exit_code(self) -> int:
        """Wait for its end, and return its exit code."""
        return int(run("podman", "wait", self.name).stdout)

    def remove(self) -> None:
        run("podman", "rm", "--force", "--time", "0", self.name, check=False)

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


@contextmanager
def registry() -> Iterator[str]:
    """Run a registry, and give its address without a scheme."""
    port = free_port()
    folder = FOLDER / "registry"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder)}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "config.yml").write_text(json.dumps(settings), "utf-8")  # YAML contains JSON
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        address = f"127.0.0.1:{port}"
        urllib3.request(
            "GET", f"http://{address}/v2/", retries=urllib3.Retry(20, backoff_factor=0.1)
        )
        try:
            yield address
        finally:
            process.terminate()
            shutil.rmtree(folder)


def push(image: str, place: str, form: str) -> None:
    """Push an image to a registry without TLS; `form` is v2s2 or oci."""
    options = ["--quiet", "--tls-verify=false", "--format", form]
    run("buildah", "push", *options, image, f"docker://{place}")


def stored_blobs() -> list[Path]:
    """Return the files of all blobs in the registry: layers, configurations, manifests."""
    return sorted((FOLDER / "registry" / "docker" / "registry" / "v2" / "blobs").rglob("data"))


def unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def manifest(address: str, repository: str, tag: str) -> tuple[str, Mapping[str, object]]:
    """Return the media type of an image's manifest, and the manifest."""
    accepted = ", ".join(
        [
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.index.v1+json",
        ]
    )
    answer = urllib3.request(
        "GET", f"http://{address}/v2/{repository}/manifests/{tag}", headers={"Accept": accepted}
    )
    return answer.headers["Content-Type"], answer.json()


def _unmount() -> None:
    """Unmount what Buildah 1.28 leaves mounted, so that the folder can be deleted."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    for place in sorted(mounted, key=len, reverse=True):
        if Path(place).is_relative_to(FOLDER):
            run("umount", place, check=False)
