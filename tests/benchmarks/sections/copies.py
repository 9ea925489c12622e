"""How often a picture lies in the Lambda's memory on its way through.

    python -m tests.benchmarks.sections.copies

Python's own count of what it allocates (tracemalloc), while one visit is answered, up to the JSON
document that AWS's Runtime Interface Client posts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.lib import against
from tests.benchmarks.lib.lambda_packages import EVENT, unpack, variables
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, run_alone
from tests.benchmarks.lib.stub_endpoint import noise_png, stub_endpoint
from tests.packages import package_gateway

TEXT = """\
How much memory a visit takes at its peak, as a multiple of its picture, a PNG of 1.5 MB: from the
event that a warm Lambda is given to the bytes of the JSON document that it answers with. Lambda
speaks JSON, so the least is 4: the picture's base64, which is 4/3 of it, the document as text, and
the document as bytes. The picture as it came is let go before. The bare handler does just this.
"""

_COUNT = """
import contextlib, io, json, sys, tracemalloc
import app

class Context:
    function_name = "easel"
    function_version = "1"
    memory_limit_in_mb = 1024
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:easel"
    aws_request_id = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self):
        return 29_000

def visit():
    with contextlib.redirect_stdout(io.StringIO()):
        answer = app.app(event, Context())
    document = json.dumps(answer, ensure_ascii=False).encode()
    return answer["statusCode"], len(document)

event = json.load(sys.stdin)
visit()  # what is made once, such as clients, is none of a picture's copies
tracemalloc.start()
before, _ = tracemalloc.get_traced_memory()
status, size = visit()
_, peak = tracemalloc.get_traced_memory()
print(json.dumps({"status": status, "size": size, "bytes": peak - before}))
"""


def section(quick: bool = False) -> Section:
    """Count them; it takes no longer than when it is to be quick."""
    del quick
    picture = len(noise_png(850, 600))
    with tempfile.TemporaryDirectory() as folder, stub_endpoint() as url:
        package = package_gateway(Path(folder, "package")) / "deployment.zip"
        folders = unpack(package, Path(folder))
        ours, chalice, bare = (
            Figure(round(count(folders[name], variables(url)) / picture, 2))
            for name in ("easel", "bare chalice", "bare handler")
        )
    aim = Aim("ratio", at_most=1.05)
    what = "memory of a visit, by its picture"
    return Section(
        "A picture's copies in the Lambda",
        TEXT,
        (
            Row(what, "times", ours, "bare handler", bare, aim),
            Row(what, "times", ours, "bare Chalice app", chalice, aim),
        ),
        packages=("chalice", "boto3"),
    )


def compare(other: Path, quick: bool = False) -> Section:
    """Count this gateway's copies against another checkout's."""
    del quick
    picture = len(noise_png(850, 600))
    with tempfile.TemporaryDirectory() as folder, stub_endpoint() as url:
        folders = against.unpack_gateways(Path(folder), other)
        figures = {
            name: Figure(round(count(unpacked, variables(url)) / picture, 2))
            for name, unpacked in folders.items()
        }
    rows = [against.row("memory of a visit, by its picture", "times", figures)]
    return against.section("A picture's copies in the Lambda", rows, packages=("chalice", "boto3"))


def count(folder: Path, environment: dict[str, str]) -> int:
    """Return the bytes that the second visit to an unpacked Lambda takes at its peak.

    Raises:
        RuntimeError: if what came was no picture.
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", _COUNT],
        cwd=folder,
        env={**os.environ, **_CREDENTIALS, **environment, "PYTHONPATH": str(folder)},
        input=json.dumps(EVENT),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    found = json.loads(done.stdout.splitlines()[-1])
    if found["status"] != 200 or found["size"] < 1_000_000:
        raise RuntimeError(f"no picture: {found}")
    return int(found["bytes"])


_CREDENTIALS = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
}


if __name__ == "__main__":
    run_alone(section)
