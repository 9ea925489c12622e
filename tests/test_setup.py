"""The shell script that a stranger meets first."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest

from tests.packages import ROOT


def setup(*arguments):
    command = ["bash", str(ROOT / "setup.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_help_names_every_command():
    shown = setup("--help")

    assert shown.returncode == 0
    for command in ("run", "test", "deploy", "destroy", "install"):
        assert f"./setup.sh {command}" in shown.stdout


def test_without_a_command_it_says_what_there_is():
    assert setup().stdout == setup("--help").stdout


def test_an_unknown_command_fails_and_says_so():
    shown = setup("paint")

    assert shown.returncode == 1
    assert "no such command: paint" in shown.stderr


def test_a_python_that_is_too_old_is_not_used(tmp_path):
    """With nothing else on the path, the script says what to install instead of half-working."""
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    copy = tmp_path / "easel"
    copy.mkdir()
    (copy / "setup.sh").write_bytes((ROOT / "setup.sh").read_bytes())
    for tool in ("dirname", "cat", "cksum"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    shown = subprocess.run(
        ["/bin/bash", str(copy / "setup.sh"), "install"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert shown.returncode != 0
    assert "no Python 3.11 or newer found" in shown.stderr


# A Python whose pytest and mypy do as they are told, and whose venv is a copy of itself.
PRETENDED = """#!/bin/sh
echo "$(basename "$0") $@"
case "$*" in
  *"-m pytest"*--ignore*) eval "$REST" ;;
  *"-m pytest"*) eval "$ENDS" ;;
  *"-m venv"*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
  *version_info*) echo "True $VERSION" ;;
esac
[ "$(basename "$0")" != mypy ] || eval "$TYPES"
"""


@pytest.fixture
def pretended(tmp_path):
    """Return the command that tests a copy of the repository with pretended tools."""
    (tmp_path / "setup.sh").write_bytes((ROOT / "setup.sh").read_bytes())
    # Not of the folders with a dot: what is installed there is a hundred times as much.
    for pattern in ("requirements*.txt", "[!.]*/**/requirements*.txt"):
        for requirements in ROOT.glob(pattern):
            copy = tmp_path / requirements.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.touch()
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for tool in ("python", "ruff", "mypy"):
        (tools / tool).write_text(PRETENDED)
        (tools / tool).chmod(0o755)
    (tmp_path / ".venv" / ".installed-pip").touch()
    return ["/bin/bash", str(tmp_path / "setup.sh"), "test"]


def variables(ends="", rest="", types=""):
    return {**os.environ, "ENDS": ends, "REST": rest, "TYPES": types}


@pytest.mark.parametrize("types", [0, 1])
@pytest.mark.parametrize(("ends", "rest"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_the_tests_fail_where_any_part_of_them_does(pretended, ends, rest, types):
    """Every part runs whatever becomes of the others, and all are reported."""
    shown = subprocess.run(
        pretended,
        env=variables(f"exit {ends}", f"exit {rest}", f"exit {types}"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert (shown.returncode != 0) == bool(ends or rest or types), shown.stderr
    assert "-n 3 -p no:cacheprovider tests/end_to_end" in shown.stdout
    assert "--ignore=tests/end_to_end" in shown.stdout
    assert "mypy" in shown.stdout


def test_arguments_go_to_pytest_and_all_selects_everything(pretended):
    command = [*pretended, "--all", "tests/a.py", "-k", "b c"]
    shown = subprocess.run(
        command,
        env=variables(ends='echo "all: $ALL_TESTS"'),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )

    assert "python -m pytest tests/a.py -k b c" in shown.stdout
    assert "all: 1" in shown.stdout
    assert "ruff" not in shown.stdout


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_optimum_neuron_is_installed_for_the_python_that_it_supports(pretended, python):
    shown = subprocess.run(
        [*pretended, "--all", "tests/a.py"],
        env={**variables(), "VERSION": python},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )

    said = "the tests of Inferentia2 are skipped: optimum-neuron requires Python 3.11"
    assert ("installing tests/requirements-neuron.txt" in shown.stderr) == (python == "3.11")
    assert (said in shown.stderr) == (python != "3.11")


@pytest.fixture
def without_browsers(tmp_path, pretended):
    """Return a function that runs `setup.sh test` as some user where only Chromium is installed."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("basename", "cat", "cksum", "cp", "dirname", "ls", "mkdir", "rm", "touch"):
        (tools / tool).symlink_to(shutil.which(tool))
    pretences = {
        "chromium": "",
        "apt-get": 'echo "apt-get $@" >&2; exit $APT',
        "id": "echo $USER_ID",
    }
    for tool, script in pretences.items():
        (tools / tool).write_text(f"#!/bin/sh\n{script}\n")
        (tools / tool).chmod(0o755)

    def run(user, *arguments, apt=0):
        environment = {"PATH": str(tools), "USER_ID": str(user), "APT": str(apt)}
        command = [*pretended, *arguments, "tests/a.py"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    return run


def test_browsers_that_are_missing_are_installed(without_browsers):
    shown = without_browsers(0).stderr
    assert "install -y chromium-headless-shell" in shown
    assert "install -y firefox-esr" in shown
    everything = without_browsers(0, "--all").stderr
    assert "install -y webkit2gtk-driver xvfb" in everything
    assert "install -y --no-install-recommends buildah podman runc" in everything


def test_chromium_with_its_windows_will_do_where_packages_cannot_be_installed(without_browsers):
    shown = without_browsers(0, apt=100)

    assert "playwright" not in shown.stdout + shown.stderr
    assert "python -m pytest tests/a.py" in shown.stdout


def test_who_cannot_install_a_browser_is_told_what_is_skipped(without_browsers):
    shown = without_browsers(1000, "--all")

    assert "apt-get " not in shown.stderr
    assert "tests in Firefox are skipped" in shown.stderr
    assert "(Debian: apt install webkit2gtk-driver xvfb)" in shown.stderr
    assert "the tests that build the serving image are skipped" in shown.stderr
    assert "python -m pytest tests/a.py" in shown.stdout


def is_running(pid):
    """Return whether a process exists and is more than an entry that nobody has waited for."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition, seconds=300):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


# One ends when it is asked to, one does not, and both have a server that outlives them.
WILLING = "sleep 600 & echo $! $$ > willing.tmp; mv willing.tmp willing; wait"
STUBBORN = f"trap '' INT TERM; {WILLING.replace('willing', 'stubborn')}"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_tests_and_everything_that_they_started(
    pretended, tmp_path, number, status
):
    files = [tmp_path / "willing", tmp_path / "stubborn"]
    with subprocess.Popen(
        pretended, env=variables(WILLING, STUBBORN), stdout=subprocess.DEVNULL
    ) as tests:
        wait_until(lambda: all(file.exists() for file in files))
        tests.send_signal(number)
        assert tests.wait(300) == status

    pids = [int(pid) for file in files for pid in file.read_text().split()]
    assert len(pids) == 4
    wait_until(lambda: not any(map(is_running, pids)))


# A Python that makes environments and installs into them as the real one does, step by step. Its
# environment has bin/python before it has pip. `$HOLD` is the step at which it stays.
SLOW = """#!/bin/sh
echo "$*" >> "$LOG"
hold() { [ "$HOLD" != "$1" ] || { echo $$ > "$LOG.$1"; sleep 600; }; }
case "$*" in
  *fcntl*) exec "$REAL_PYTHON" "$@" ;;
  *print*) echo True 3.11 ;;
  *"-m venv"*)
    rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; hold venv; touch "$4/pip" ;;
  *"-m pip"*)
    here=$(dirname "$(dirname "$0")")
    [ -e "$here/pip" ] || { echo "No module named pip" >&2; exit 1; }
    [ ! -e "$here/half" ] || { echo "ERROR: half of it is there" >&2; exit 1; }
    touch "$here/half"
    case "$*" in *requirements*) hold requirements ;; *) hold pip ;; esac
    [ -z "$SAYS" ] || { echo "$SAYS" >&2; rm "$here/half"; exit 1; }
    rm "$here/half" ;;
  *) true ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """Return a function that starts the installation of a clean checkout."""
    folder = tmp_path / "an easel"
    for requirements in (ROOT / "setup.sh", *ROOT.glob("*/requirements.txt"),
                         ROOT / "model_package/server/requirements.txt",
                         ROOT / "requirements.txt"):  # fmt: skip
        copy = folder / requirements.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(requirements.read_bytes())
    python = tmp_path / "a python" / "python"
    python.parent.mkdir()
    python.write_text(SLOW)
    python.chmod(0o755)

    @contextmanager
    def install(hold="", says="", python=python):
        environment = {**os.environ, "PYTHON": str(python), "HOLD": hold, "SAYS": says,
                       "LOG": str(tmp_path / "log"), "REAL_PYTHON": sys.executable}  # fmt: skip
        command = ["/bin/bash", "setup.sh", "install"]
        with subprocess.Popen(
            command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.terminate()

    return install


def test_an_installation_is_made_once_and_says_so(checkout):
    install = checkout
    for said in (True, False):
        with install() as process:
            errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
        assert ("making .venv" in errors) is said
        assert ("installing what 'run' needs" in errors) is said


@pytest.fixture
def _hang_up_is_not_ignored():
    """As under nohup, where bash, too, would ignore SIGHUP, whatever its traps say."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_hang_up_is_not_ignored")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("step", ["venv", "pip", "requirements"])
def test_an_installation_that_is_interrupted_at_any_step_is_made_again(
    checkout, tmp_path, step, number
):
    install = checkout
    with install(hold=step) as process:
        started = tmp_path / f"log.{step}"
        wait_until(lambda: started.exists() and started.read_text())
        process.send_signal(number)
        # What is killed can end nothing; the others end what they started.
        process.wait(300)
        pid = int(started.read_text())
        if number == signal.SIGKILL:
            os.killpg(os.getpgid(pid), signal.SIGKILL)
        else:
            assert process.returncode == 128 + number
        wait_until(lambda: not is_running(pid))
    with install() as again:
        assert again.wait(300) == 0, again.stderr.read()


def test_a_second_start_waits_for_the_installation_of_the_first(checkout, tmp_path):
    install = checkout
    with install(hold="venv") as first:
        wait_until((tmp_path / "log.venv").exists)
        with install() as second:
            assert "waiting for another start" in second.stderr.readline()
            first.terminate()
            assert second.wait(300) == 0, second.stderr.read()
    assert (tmp_path / "log").read_text().count("-m venv") == 2


def test_an_installation_without_a_network_says_so_and_keeps_what_is_there(checkout, tmp_path):
    install = checkout
    with install(says="NewConnectionError: Temporary failure in name resolution") as process:
        assert process.wait(300) == 1
        (_, said) = process.stderr.read().splitlines()
    assert said.startswith("easel: pip could not reach its package index: connect this machine")
    with install() as again:
        assert again.wait(300) == 0, again.stderr.read()


def test_what_pip_says_is_shown(checkout):
    install = checkout
    with install(says="ERROR: No space left on device") as process:
        assert process.wait(300) == 1
        assert "ERROR: No space left on device\neasel: pip could not" in process.stderr.read()


@pytest.mark.parametrize(
    ("script", "mode", "said"),
    [
        (None, 0o755, "cannot be run"),
        ("#!/bin/sh\nexit 0\n", 0o755, "cannot be run"),
        ("#!/bin/sh\nexit 0\n", 0o000, "cannot be run"),
        ("#!/bin/sh\necho False 3.10\n", 0o755, "is older than Python 3.11"),
    ],
)
def test_a_python_that_was_named_and_does_not_do_is_named(checkout, tmp_path, script, mode, said):
    python = tmp_path / "my python"
    if script is not None:
        python.write_text(script)
        python.chmod(mode)
    install = checkout
    with install(python=python) as process:
        assert process.wait(300) == 1
        assert process.stderr.read().startswith(f"easel: PYTHON={python} {said}")


def test_pytest_closes_its_servers_when_it_is_asked_to_end(tmp_path):
    """What runs in a process group of its own is closed by its fixture alone."""
    (tmp_path / "test_server.py").write_text(
        "import pathlib, time, pytest\n"
        "@pytest.fixture\n"
        "def server():\n"
        "    yield pathlib.Path('running').touch()\n"
        "    pathlib.Path('closed').touch()\n"
        "def test(server):\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "test_server.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
    ) as tests:
        wait_until((tmp_path / "running").exists)
        tests.send_signal(signal.SIGTERM)
        assert tests.wait(300) == pytest.ExitCode.INTERRUPTED

    assert (tmp_path / "closed").exists()
