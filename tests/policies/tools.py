"""Programs that read what is deployed, and whose requirements conflict with this project's.

`./setup.sh test` installs them in another environment and gives their paths in CHECKOV and so on;
otherwise they are found on the PATH.
"""

import os
import shutil

import pytest


def find_program(name: str) -> str:
    """Return the path of a program; skips the test where it is not installed."""
    variable = name.upper().replace("-", "_")
    program = os.environ.get(variable) or shutil.which(name)
    if not program:
        pytest.skip(f"{name} is not installed; its path goes into {variable}")
    return program
