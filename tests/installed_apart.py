"""Programs that `./setup.sh test` installs into environments of their own."""

from __future__ import annotations

import os
import shutil

import pytest


def policy_tool(name: str) -> str:
    """Return the path of a program that looks at policies or workflows, or skip the test.

    It is on the PATH, or its path is in a variable of its name, such as CHECKOV.
    """
    variable = name.upper().replace("-", "_")
    program = os.environ.get(variable) or shutil.which(name)
    if not program:
        pytest.skip(f"{name} is not installed; its path goes into {variable}")
    return program
