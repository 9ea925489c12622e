"""The number of copies of an image in the Lambda's memory during a request.

    python -m tests.benchmarks.sections.gateway.copies

Counted with Python's tracemalloc, from the event to the JSON document that AWS's Runtime Interface
Client posts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from endpoint.emulator.process import clients
from tests.benchmarks.lib import against
from tests.benchmarks.lib.gateway.lambda_packages import EVENT, unpack, variables
from tests.benchmarks.lib.gateway.stub_endpoint import noise_png, stub_endpoint
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section
from tests.packages import package_gateway

TEXT = """\
Peak memory of a request to a warm Lambda, as a multiple of the image's size (a PNG of 1.5 MB), from
the event to the bytes of the JSON document that is returned. Lambda requires JSON, so the minimum
is 4: base64 (4/3 of the image), the document as text, and the document as bytes; the image itself
has been freed by then. The bare handler does just this.
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

def request():
    with contextlib.redirect_stdout(io.StringIO()):
        response = app.app(event, Context())
    document = json.dumps(response, ensure_ascii=False).encode()
    return response["statusCode"], len(document)

event = json.load(sys.stdin)
request()  # objects that are created once, such as clients, do not count
tracemalloc.start()
before, _ = tracemalloc.get_traced_memory()
status, size = request()
_, peak = tracemalloc.get_traced_memory()
print(json.dumps({"status": status, "size": size, "bytes": peak - before}))
"""


def section(quick: bool = False) -> Section:
    """Count the copies; `quick` changes nothing."""
    del quick
    image = len(noise_png(850, 600))
    with tempfile.TemporaryDirectory() as folder, stub_endpoint() as url:
        package = package_gateway(Path(folder, "package")) / "deployment.zip"
        folders = unpack(package, Path(folder))
        ours, chalice, bare = (
            Figure(round(count(folders[name], _variables(url)) / image, 2))
            for name in ("easel", "bare chalice", "bare handler")
        )
    aim = Aim("ratio", at_most=1.05)
    what = "memory of a request, as a multiple of its image"
    return Section(
        "An image's copies in the Lambda",
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
    image = len(noise_png(850, 600))
    with tempfile.TemporaryDirectory() as folder, stub_endpoint() as url:
        folders = against.unpack_gateways(Path(folder), other)
        figures = {
            name: Figure(round(count(unpacked, _variables(url)) / image, 2))
            for name, unpacked in folders.items()
        }
    rows = [against.row("memory of a request, as a multiple of its image", "times", figures)]
    return against.section("An image's copies in the Lambda", rows, packages=("chalice", "boto3"))


def _variables(url: str) -> dict[str, str]:
    return {**clients.environment(url, "us-east-1"), **variables(url)}


def count(folder: Path, environment: dict[str, str]) -> int:
    """Return the peak bytes of the second request to an unpacked Lambda.

    Raises:
        RuntimeError: if the response is no image.
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", _COUNT],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": str(folder)},
        input=json.dumps(EVENT),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    result = json.loads(done.stdout.splitlines()[-1])
    if result["status"] != 200 or result["size"] < 1_000_000:
        raise RuntimeError(f"no image: {result}")
    return int(result["bytes"])


if __name__ == "__main__":
    print_section(section)
