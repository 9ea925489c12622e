"""The shell script that a stranger meets first."""

import os
import subprocess

import pytest

from tests.packages import ROOT


def setup(*arguments):
    command = ["bash", str(ROOT / "setup.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


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


# A Python whose pytest ends as it is told to, and whose venv is a copy of itself.
PRETENDED = """#!/bin/sh
echo "$@"
case "$*" in
  *"-m pytest"*--ignore*) exit $REST ;;
  *"-m pytest"*) exit $ENDS ;;
  *"-m venv"*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
esac
"""


@pytest.mark.parametrize(("ends", "rest"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_the_tests_fail_where_either_half_of_them_does(tmp_path, ends, rest):
    """Both halves run whatever becomes of the other, and both are told."""
    (tmp_path / "setup.sh").write_bytes((ROOT / "setup.sh").read_bytes())
    for requirements in ROOT.glob("**/requirements*.txt"):
        if ".venv" not in requirements.parts:
            copy = tmp_path / requirements.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.touch()
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for tool in ("python", "ruff", "mypy"):
        (tools / tool).write_text(PRETENDED)
        (tools / tool).chmod(0o755)
    shown = subprocess.run(
        ["/bin/bash", str(tmp_path / "setup.sh"), "test"],
        env={**os.environ, "ENDS": str(ends), "REST": str(rest)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (shown.returncode != 0) == bool(ends or rest), shown.stderr
    assert "pytest -p no:cacheprovider tests/end_to_end" in shown.stdout
    assert "pytest --ignore=tests/end_to_end" in shown.stdout
