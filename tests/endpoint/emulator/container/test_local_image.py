"""Running the serving image on this machine, with engines that only write down what they are asked.

tests/model_package/test_image.py runs a real one.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from endpoint.emulator.container import local_image
from endpoint.emulator.container.local_image import Engine, NoImage, find_engine, image_name
from endpoint.emulator.process.processes import ROOT, free_port
from endpoint.provision.serving import image_source
from tests.endpoint.emulator.doubles import wait_until

# `run` lasts until `stop`; INFO, IMAGE and BUILD are the statuses of what comes before.
ENGINE = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case $1 in
  info) echo "no daemon" >&2; exit "$INFO" ;;
  image) exit "$IMAGE" ;;
  build) for word in "$@"; do case $word in *src=*) cat "${word##*src=}" >> "$CALLS" ;; esac; done
    exit "$BUILD" ;;
  run) echo "secret: $EASEL_TOKEN" >> "$CALLS"
    while [ ! -e "$CALLS.stopped" ]; do sleep 0.05; done; exit 3 ;;
  stop) touch "$CALLS.stopped" ;;
esac
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Give a function that installs engines on an otherwise empty machine."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in ("sh", "basename", "cat", "sleep", "touch"):
        (programs / tool).symlink_to(f"/bin/{tool}")
    settings = {"PATH": str(programs), "CALLS": str(tmp_path / "calls")}
    for name, text in {**settings, "INFO": "0", "IMAGE": "0", "BUILD": "0"}.items():
        monkeypatch.setenv(name, text)

    def install(*engines, **statuses):
        for name, status in statuses.items():
            monkeypatch.setenv(name, str(status))
        for name in engines:
            (programs / name).write_text(ENGINE)
            (programs / name).chmod(0o755)
        return tmp_path / "calls"

    return install


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_an_image_that_exists_is_not_built_again(machine, name):
    calls = machine(name)
    engine = find_engine()
    engine.require_image()
    assert calls.read_text().splitlines() == [
        f"{name} info",
        f"{name} image inspect {engine.image}",
    ]


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_an_image_that_does_not_exist_is_built_with_this_machines_index(machine, name, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/some/folder")
    calls = machine(name, IMAGE=1)
    find_engine().require_image()
    (build,) = [line for line in calls.read_text().splitlines() if line.startswith(f"{name} build")]
    assert "--build-arg VARIANT=cpu" in build
    assert f"--tag {image_name('cpu')}" in build
    assert build.endswith(str(ROOT / "model_package"))
    assert ("--format docker" in build) == (name == "podman")
    # As a secret: it is in no argument, and so in no layer.
    assert "index.example" not in build
    assert "\nindex-url = https://index.example/simple\n" in calls.read_text()
    assert "/some/folder" not in calls.read_text()


def test_without_an_index_of_its_own_the_variant_for_cpus_gets_pytorchs(monkeypatch):
    monkeypatch.setattr(
        local_image, "_output", lambda *_: subprocess.CompletedProcess([], 0, "", "")
    )
    assert local_image.pip_conf("cuda") == "[global]\n"
    assert "extra-index-url = https://download.pytorch.org/whl/cpu" in local_image.pip_conf("cpu")


def test_a_failed_build_and_a_machine_without_engines_are_reported_in_a_sentence(machine):
    with pytest.raises(NoImage, match="requires Docker or Podman, and neither is installed"):
        find_engine()
    machine("docker", INFO=1)
    with pytest.raises(NoImage, match=r"docker does not work here \(no daemon\): start or repair"):
        find_engine()
    machine("podman", INFO=0, IMAGE=1, BUILD=1)
    with pytest.raises(NoImage, match="docker could not build the image"):
        find_engine().require_image()


def test_another_engine_is_taken_where_the_first_does_not_work(machine, tmp_path):
    machine("docker", "podman")
    broken = tmp_path / "bin" / "docker"
    broken.write_text("#!/bin/sh\nexit 1\n")
    assert find_engine().name == "podman"


@pytest.mark.parametrize("how", ["stopped", "orphaned"])
def test_the_container_ends_with_what_started_it(machine, tmp_path, how):
    calls = machine("podman")
    variables = {"EASEL_TOKEN": "hush", "HOME": "/x", "HF_TOKEN": "quiet"}
    child = Engine("podman", "cpu").start(free_port(), tmp_path, tmp_path, variables)
    wait_until(lambda: "secret: hush" in (calls.read_text() if calls.exists() else ""))
    if how == "stopped":
        child.stop()
    else:
        child.process.stdin.close()  # as when its parent was killed
        child.process.wait(10)
    assert child.process.returncode == 3
    run, *_, stop = [line for line in calls.read_text().splitlines() if "podman" in line]
    name = run.split("--name ")[1].split()[0]
    assert stop == f"podman stop -t 2 {name}"
    assert f"--volume {tmp_path}:/opt/ml/model:ro" in run
    assert "--env EASEL_TOKEN --env HF_TOKEN --env SAGEMAKER_SUBMIT_DIRECTORY" in run
    assert not {"hush", "quiet", "HOME"} & set(run.split())
    assert run.endswith(f"{image_name('cpu')} serve")


def test_a_container_for_gpus_gets_them(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(local_image, "Child", lambda *given, **_: started.append(given[2]))
    for name in ("docker", "podman"):
        Engine(name, "cuda").start(8080, tmp_path, None, {})
    docker, podman = map(" ".join, started)
    assert "--gpus all" in docker
    assert "--device nvidia.com/gpu=all" in podman


def test_the_name_of_the_image_is_its_variant_and_the_hash_of_its_sources():
    names = {image_name(variant) for variant in ("cpu", "cuda")}
    tag = image_source.read().tag
    assert names == {f"localhost/easel:cpu-{tag}", f"localhost/easel:cuda-{tag}"}


def test_run_says_what_image_local_requires(machine):
    machine()
    done = subprocess.run(
        [sys.executable, "-m", "endpoint.emulator", "run", "--image", "local"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Easel: --image local requires Docker or Podman")
    assert len(done.stderr.splitlines()) == 1
