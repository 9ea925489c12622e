"""The process around an entry point: signals, exit codes, and the end of the emulator."""

from __future__ import annotations

import json
import os
import sys

import pytest

from endpoint.emulator.process.processes import Child
from tests.endpoint.emulator.doubles import is_alive, wait_until


@pytest.fixture
def start(tmp_path):
    children = []

    def run(script):
        command = [sys.executable, "-c", script]
        run = {"command": command, "folder": str(tmp_path), "environment": {}}
        module = "endpoint.emulator.training.entry_process"
        child = Child("entry", module, [json.dumps(run)], environment={"PATH": os.defpath})
        children.append(child)
        return child

    yield run
    for child in children:
        child.kill()


READY = "import os, pathlib, signal, time; pathlib.Path('pid').write_text(str(os.getpid()));"


def pid_in(folder):
    path = folder / "pid"
    wait_until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def test_the_exit_code_is_the_entry_points(start):
    assert start("raise SystemExit(7)").process.wait(30) == 7
    assert start("import os; os.abort()").process.wait(30) == 128 + 6


def test_sigterm_reaches_the_entry_point(start, tmp_path):
    child = start(f"{READY} time.sleep(600)")
    pid = pid_in(tmp_path)
    child.process.terminate()
    assert child.process.wait(30) == 128 + 15
    assert not is_alive(pid)


def test_the_entry_point_ends_with_the_process_that_holds_the_pipe(start, tmp_path):
    child = start(f"{READY} signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)")
    pid = pid_in(tmp_path)
    # As the kernel does when the emulator is killed.
    child.process.stdin.close()
    child.process.wait(30)
    wait_until(lambda: not is_alive(pid))
