"""The shell script that a stranger meets first."""

import subprocess

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
