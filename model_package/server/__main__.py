"""`python -m server`: see `main.py`."""

from __future__ import annotations

import signal

# While it imports, Ctrl-C ends this process without a traceback: nothing has begun yet.
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
import sys

from .main import main

if __name__ == "__main__":
    code = main(sys.argv[1:], os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    # Without waiting for threads that still compute, and whose libraries are torn down under them.
    os._exit(code)
