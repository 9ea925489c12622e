"""`python -m server`: see `main.py`."""

from __future__ import annotations

import os
import sys

from .main import main

if __name__ == "__main__":
    code = main(sys.argv[1:], os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    # Without waiting for threads that still compute, and whose libraries are torn down under them.
    os._exit(code)
