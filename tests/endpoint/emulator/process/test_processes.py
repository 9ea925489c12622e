from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from endpoint.emulator.process.processes import ROOT, Child, ChildEnded, free_port, port_is_free
from tests.endpoint.emulator.doubles import is_alive, wait_until

STUBBORN = """
import os, signal, sys, time
from endpoint.emulator.process.orphans import end_with_parent

end_with_parent()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), sys.stdin.read() == "", flush=True)
time.sleep(60)
"""


@pytest.fixture
def stubborn(monkeypatch, tmp_path):
    (tmp_path / "stubborn_double.py").write_text(STUBBORN, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "stubborn_double"


def test_a_child_that_ignores_sigterm_is_killed(stubborn, monkeypatch):
    monkeypatch.setattr("endpoint.emulator.process.processes.GRACE_SECONDS", 0.1)
    with Child("the double", stubborn, output=subprocess.PIPE) as child:
        assert child.process.stdout is not None
        pid, nothing_to_read = child.process.stdout.readline().split()
        assert nothing_to_read == b"True"
    assert not is_alive(int(pid))


def test_a_child_ends_when_its_parent_is_killed(stubborn):
    parent_code = (
        "import subprocess, time\n"
        "from endpoint.emulator.process.processes import Child\n"
        f"Child('the double', {stubborn!r})\n"
        "time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent_code], cwd=ROOT, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[0])
        assert is_alive(pid)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))


def test_a_child_that_has_ended_is_reported(monkeypatch, tmp_path):
    (tmp_path / "brief_double.py").write_text("raise SystemExit(7)", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        Child("the double", "brief_double") as child,
        pytest.raises(ChildEnded, match="the double has ended with exit code 7"),
    ):
        child.wait_until(lambda: False, 20)


def test_a_child_that_was_killed_is_reported(stubborn):
    with Child("the double", stubborn, output=subprocess.DEVNULL) as child:
        child.check()
        child.process.kill()
        child.process.wait()
        with pytest.raises(ChildEnded, match="by SIGKILL"):
            child.check()


def test_a_child_may_end_while_it_is_being_killed(stubborn):
    with Child("the double", stubborn, output=subprocess.DEVNULL) as child:
        child.kill()
        # What a thread sees that looked just before another one killed the child.
        child.process.poll = lambda: None  # type: ignore[method-assign]
        child.kill()
        del child.process.poll


def test_waiting_for_a_child_times_out(stubborn):
    child = Child("the double", stubborn, output=subprocess.DEVNULL)
    with pytest.raises(TimeoutError, match=r"the double was not ready after 0\.1 s"):
        child.wait_until(lambda: False, 0.1)
    child.kill()


def test_a_port_with_a_listener_is_not_free():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not port_is_free(port)
    assert port_is_free(port)
    assert port_is_free(free_port())
    assert port_is_free(0)
