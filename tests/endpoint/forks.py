"""Copies of this process, in which a test tries one of the ways on from where it is.

Only the thread that forks is in a copy. Python 3.12 and newer warn of that; the scripts start no
other thread where tests fork, and those of pytest are not needed in a copy.
"""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable

_report: int | None = None  # in a copy: where it writes its failure


def fork() -> bool:
    """Copy this process; return True in the copy, and False here when the copy has ended.

    Raises:
        AssertionError: here, with the traceback of what failed in the copy.
    """
    global _report
    receiver, sender = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        copy = os.fork()
    if copy == 0:
        os.close(receiver)
        _report = sender
        return True
    os.close(sender)
    with os.fdopen(receiver, encoding="utf-8") as said:
        failure = said.read()
    _, status = os.waitpid(copy, 0)
    assert (failure, status) == ("", 0), failure or f"the copy ended with the status {status}"
    return False


def end(act: Callable[[], object]) -> None:
    """Do `act` in a copy, report how it fails, and end the copy."""
    assert _report is not None, "this is no copy"
    try:
        act()
    except BaseException:  # noqa: BLE001 - such as pytest's own, and a crash
        with os.fdopen(_report, "w", encoding="utf-8", errors="backslashreplace") as report:
            report.write(traceback.format_exc())
    finally:
        os._exit(0)  # without what pytest and this test would still do at their end
