"""The serving image on this machine, built and run by Docker or Podman.

`python -m endpoint.emulator run --image local` starts it in the place of the model server. The
image is tagged with a hash of its sources, so that one that exists is the right one.

Run as a module, it runs one container and stops it on SIGTERM, or when its parent has ended.
"""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from endpoint.emulator.process.processes import ROOT, Child
from endpoint.provision.serving import image_source

CONTEXT = ROOT / "model_package"
DOCKERFILE = CONTEXT / "server" / "Dockerfile"
IGNORED = CONTEXT / "server" / "Dockerfile.dockerignore"
ENGINES = ("docker", "podman")
# Where PyTorch publishes its builds for CPUs, which PyPI does not have.
_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_INDEX_OPTIONS = ("index-url", "extra-index-url", "find-links")
# Weights from the hub are kept in a volume of this name.
_HUB_VOLUME = "easel-hub:/root/.cache/huggingface"
_PASSED = ("EASEL_", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "SAGEMAKER_")
# The emulator kills a process that takes longer than five seconds to end.
_STOP_SECONDS = 2


class NoImage(RuntimeError):
    """The image cannot be built or run here; the message gives the reason and the remedy."""


@dataclass(frozen=True)
class Engine:
    """What runs containers on this machine.

    Attributes:
        name: docker or podman.
        variant: the image that suits this machine: cuda or cpu.
    """

    name: str
    variant: str

    @property
    def image(self) -> str:
        """The image of this repository's present sources."""
        return image_name(self.variant)

    def require_image(self) -> None:
        """Build the image, unless it exists.

        Raises:
            NoImage: if it cannot be built; the reason is on standard error.
        """
        if self._succeeds("image", "inspect", self.image):
            return
        print(f"Building {self.image} with {self.name}; this takes minutes ...", flush=True)
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings:
            settings.write(pip_conf(self.variant))
            settings.flush()
            command = [self.name, "build", "--file", str(DOCKERFILE), "--tag", self.image]
            command += ["--build-arg", f"VARIANT={self.variant}"]
            command += ["--secret", f"id=pip.conf,src={settings.name}"]
            if self.name == "podman":  # Docker has one format, and finds the file by its name
                command += ["--format", "docker", "--ignorefile", str(IGNORED)]
            environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
            done = subprocess.run(  # noqa: S603 - an engine, with arguments as a list
                [*command, str(CONTEXT)], env=environment, stdout=sys.stderr, check=False
            )
        if done.returncode:
            raise NoImage(f"{self.name} could not build the image, for the reason above")

    def start(
        self, port: int, model: Path, code: Path | None, variables: Mapping[str, str]
    ) -> Child:
        """Run a container that serves a model.

        Args:
            port: its port on 127.0.0.1.
            model: the folder that it sees as /opt/ml/model.
            code: the folder of inference.py; None for the image's own.
            variables: its environment, from which it gets what is meant for a container.
        """
        command = ["run", "--rm", "--publish", f"127.0.0.1:{port}:8080"]
        command += ["--volume", f"{model}:/opt/ml/model:ro", "--volume", _HUB_VOLUME]
        # SELinux would otherwise refuse folders that are not labelled for containers.
        command += ["--security-opt", "label=disable"]
        if self.variant == "cuda":
            gpus = {"docker": ["--gpus", "all"], "podman": ["--device", "nvidia.com/gpu=all"]}
            command += gpus[self.name]
        variables = {name: text for name, text in variables.items() if name.startswith(_PASSED)}
        if code:
            command += ["--volume", f"{code}:/opt/serving-code:ro"]
            variables["SAGEMAKER_SUBMIT_DIRECTORY"] = "/opt/serving-code"
        # By name alone, so that no token is in the list of processes.
        command += [option for name in sorted(variables) for option in ("--env", name)]
        return Child(
            "the container",
            "endpoint.emulator.container.local_image",
            [self.name, *command, self.image, "serve"],
            environment={**os.environ, **variables},
        )

    def _succeeds(self, *arguments: str) -> bool:
        return not _output(self.name, *arguments).returncode


def find_engine() -> Engine:
    """Return what runs containers here.

    Raises:
        NoImage: if neither Docker nor Podman is installed, or none works.
    """
    reasons = []
    for name in ENGINES:
        if shutil.which(name):
            done = _output(name, "info")
            if not done.returncode:
                return Engine(name, "cuda" if shutil.which("nvidia-smi") else "cpu")
            reasons += [f"{name} does not work here ({_last_line(done.stderr)})"]
    if reasons:
        raise NoImage(f"{' and '.join(reasons)}: start or repair it, or leave out --image")
    raise NoImage(
        "--image local requires Docker or Podman, and neither is installed: install one"
        " (Debian and Ubuntu: apt install podman), or leave out --image"
    )


def image_name(variant: str) -> str:
    """Return the name of the image of a variant, whose tag is a hash of its sources.

    Raises:
        ScriptError: if the sources are incomplete.
    """
    return f"localhost/easel:{variant}-{image_source.read().tag}"


def pip_conf(variant: str) -> str:
    """Return pip's settings on this machine, for the build, as the text of a pip.conf.

    Folders of this machine are left out, which the build cannot see. Where no index remains, the
    variant for CPUs gets PyTorch's.
    """
    listed = _output(sys.executable, "-m", "pip", "config", "list").stdout
    pairs = dict(line.split("=", 1) for line in listed.splitlines() if "=" in line)
    options: dict[str, str] = {}
    # pip lists its environment first, and prefers it.
    for name, text in reversed(pairs.items()):
        places = str(ast.literal_eval(text)).split()
        remote = [place for place in places if place.startswith(("http://", "https://"))]
        options[name.rpartition(".")[2]] = " ".join(remote)
    options = {name: options[name] for name in _INDEX_OPTIONS if options.get(name)}
    if variant == "cpu" and not options:
        options["extra-index-url"] = _CPU_INDEX
    return "\n".join(["[global]", *(f"{name} = {text}" for name, text in options.items()), ""])


def _output(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a list


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]


def _run_container(engine: str, arguments: Sequence[str]) -> int:
    """Run `engine run ...` until it ends, or until this process is asked to; return its status."""
    name = f"easel-{uuid.uuid4().hex[:12]}"
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    # Unlike `end_with_parent`, which leaves no time to stop the container.
    threading.Thread(target=_wait_for_parent, args=(ended,), daemon=True).start()
    command = [engine, arguments[0], "--name", name, *arguments[1:]]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as container:  # noqa: S603 - a list
        while container.poll() is None:
            if ended.wait(0.2):
                # Again, in case the container did not exist yet.
                _output(engine, "stop", "-t", str(_STOP_SECONDS), name)
    return container.returncode


def _wait_for_parent(ended: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    ended.set()


if __name__ == "__main__":
    sys.exit(_run_container(sys.argv[1], sys.argv[2:]))
