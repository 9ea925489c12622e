"""Ends a child process with its parent, however the parent ended.

This module is imported before anything else in every child, so it needs almost nothing.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading

# Set in the environment of a command that can also be started by hand, where standard input
# means nothing.
WATCHED = "EASEL_EMULATOR_WATCHED"


# Linux only: https://man7.org/linux/man-pages/man2/F_SETSIG.2const.html
CAN_END_STOPPED = hasattr(fcntl, "F_SETSIG")


def end_with_parent(*, also_stopped: bool = False) -> None:
    """End this process as soon as its standard input closes, which the parent holds open.

    The kernel also closes the pipe when the parent is killed with SIGKILL, on Linux and on macOS.
    Linux's PR_SET_PDEATHSIG would not do: it fires when the *thread* that forked ends.

    Args:
        also_stopped: whether to end then even if SIGSTOP has stopped all threads of this process,
            where `CAN_END_STOPPED`.
    """
    os.environ.pop(WATCHED, None)
    # Away from descriptor 0, so that nothing the child runs can read the pipe.
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if also_stopped and CAN_END_STOPPED:
        # The kernel signals what happens to the pipe, and nobody writes to it.
        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    threading.Thread(target=_wait_for_end, args=(pipe,), daemon=True, name="parent").start()


def _wait_for_end(pipe: int) -> None:
    while os.read(pipe, 4096):
        pass
    os._exit(1)
