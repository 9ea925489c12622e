"""Programs and libraries of others, which have environments of their own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packages import ROOT

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def node():
    """Give a function that runs a script of `node/`, with the libraries that npm installs once."""
    folder = npm_project("node")

    def run(script, url, body):
        return printed([shutil.which("node"), script, url, json.dumps(body)], folder)

    return run


def npm_project(name):
    """Return a copy of a folder of these tests, in which npm has installed its libraries."""
    npm, folder = shutil.which("npm"), ROOT / ".cache" / name
    if not npm or not shutil.which("node"):
        pytest.skip("Node.js is not installed here")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as turn:  # another test process may install there, too
        fcntl.flock(turn, fcntl.LOCK_EX)
        install_node_packages(npm, HERE / name, folder)
    return folder


def install_node_packages(npm, source, folder):
    """Copy the scripts, and have npm install their libraries unless these are there already."""
    libraries = (source / "package.json").read_bytes()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    installed = folder / "installed.json"
    if installed.is_file() and installed.read_bytes() == libraries:
        return
    install = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
    subprocess.run(install, cwd=folder, check=True)
    installed.write_bytes(libraries)


@pytest.fixture(scope="session")
def program():
    """Give a function that runs a script of `programs/` with the libraries that are apart."""
    installed_apart("programs")

    def run(script, *arguments, environment="programs", path=""):
        python = installed_apart(environment) / "python"
        command = [python, "-W", "ignore", HERE / "programs" / script, *arguments]
        return printed(command, HERE, PYTHONPATH=path)

    return run


def installed_apart(name):
    """Return the folder of the commands of an environment that `./setup.sh test` installs."""
    commands = ROOT / ".cache" / name / "bin"
    if not commands.is_dir():
        pytest.skip(f"{commands} is missing: ./setup.sh test installs it")
    return commands


def printed(command, folder, **environment):
    """Run a command in a folder, and return what it prints as JSON."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
