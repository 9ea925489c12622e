"""The gateway's Lambda: cold start, warm overhead, memory and size.

    python -m tests.benchmarks.gateway

The zip that `chalice package` makes runs under AWS's own Runtime Interface Client, in front of an
HTTP server that answers InvokeEndpoint at once with a PNG of 1.5 MB. Baselines:

* cold start: the least that could do the work with the same tools, a Chalice app that makes one
  boto3 client at import and passes the picture on
* warm: a bare Lambda handler that only calls InvokeEndpoint and encodes base64
"""

from __future__ import annotations

import base64
import functools
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from endpoint.emulator.http_server import QuietHandler, serving
from endpoint.emulator.lambda_runtime import LambdaFunction
from tests.benchmarks.measuring import Samples, in_turns, machine, milliseconds, table
from tests.packages import package_gateway, proxy_event

COLD_ROUNDS = 15
WARM_ROUNDS = 200
EVENT = proxy_event("/inference/a%20cat", "/inference/{text}", text="a%20cat")

BARE_CHALICE = """
import boto3
from chalice import Chalice, Response

app = Chalice(app_name="bare")
app.api.binary_types = ["*/*"]
client = boto3.client("sagemaker-runtime")

@app.route("/inference/{text}")
def picture(text):
    answer = client.invoke_endpoint(
        EndpointName="easel-sd", ContentType="application/json", Accept="image/png", Body=b"{}")
    return Response(answer["Body"].read(), headers={"Content-Type": "image/png"})
"""
BARE_HANDLER = """
import base64
import boto3

client = boto3.client("sagemaker-runtime")

def app(event, context):
    answer = client.invoke_endpoint(
        EndpointName="easel-sd", ContentType="application/json", Accept="image/png", Body=b"{}")
    body = base64.b64encode(answer["Body"].read()).decode()
    return {"statusCode": 200, "headers": {"Content-Type": "image/png"},
            "isBase64Encoded": True, "body": body}
"""


def main() -> int:
    """Measure, and print the figures as Markdown."""
    with tempfile.TemporaryDirectory() as folder, stub_endpoint() as url:
        package = package_gateway(Path(folder, "package")) / "deployment.zip"
        folders = unpack(package, Path(folder))
        environment = {"AWS_ENDPOINT_URL": url, "EASEL_MODELS": '{"sd": {"endpoint": "easel-sd"}}'}
        cold = measure_cold(folders, environment)
        warm, memory = measure_warm(folders, environment)
        imports = measure_imports(folders["easel"])
        print(report(package, cold, warm, memory, imports))
    return 0


def unpack(package: Path, folder: Path) -> dict[str, Path]:
    """Lay out the gateway and both baselines, all with the packages that the gateway ships."""
    folders = {name: folder / name for name in ("easel", "bare chalice", "bare handler")}
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folders["easel"])
    for name, code in (("bare chalice", BARE_CHALICE), ("bare handler", BARE_HANDLER)):
        shutil.copytree(folders["easel"], folders[name])
        shutil.rmtree(folders[name] / "chalicelib")
        (folders[name] / "app.py").write_text(code)
    for each in folders.values():  # Lambda's file system is read-only; a first run may not compile
        command = [sys.executable, "-m", "compileall", "-q", str(each)]
        subprocess.run(command, check=True, capture_output=True)
    return folders


def measure_cold(folders: dict[str, Path], environment: dict[str, str]) -> dict[str, Samples]:
    """Start each variant anew, time after time, until its first picture."""
    names = ("easel", "bare chalice")
    variants = {name: functools.partial(cold_start, folders[name], environment) for name in names}
    return in_turns(variants, COLD_ROUNDS)


def cold_start(folder: Path, environment: dict[str, str]) -> float:
    """Return the milliseconds from the process's start to the first picture."""
    with LambdaFunction(folder, environment, output=subprocess.DEVNULL) as function:
        result = function.invoke(EVENT)
        check(result.payload)
        return (float(result.init_duration or 0) + result.duration) * 1_000


def measure_warm(
    folders: dict[str, Path], environment: dict[str, str]
) -> tuple[dict[str, Samples], dict[str, int]]:
    """Invoke each variant's one instance again and again; return milliseconds and peak bytes."""
    names = ("easel", "bare handler")
    functions = {
        name: LambdaFunction(folders[name], environment, output=subprocess.DEVNULL)
        for name in names
    }
    with functions["easel"] as ours, functions["bare handler"] as bare:
        variants = {
            "easel": lambda: ours.invoke(EVENT).duration * 1_000,
            "bare handler": lambda: bare.invoke(EVENT).duration * 1_000,
        }
        in_turns(variants, 10)
        samples = in_turns(variants, WARM_ROUNDS)
        return samples, {"easel": ours.max_rss(), "bare handler": bare.max_rss()}


def measure_imports(folder: Path) -> dict[str, Samples]:
    """Start Python and import, in a process of its own each time: what the loggers cost."""
    statements = {
        "nothing": "pass",
        "json and logging": "import json, logging",
        "powertools": "import aws_lambda_powertools; import aws_lambda_powertools.metrics",
    }
    variants = {
        name: functools.partial(milliseconds, functools.partial(run_python, statement, folder))
        for name, statement in statements.items()
    }
    return in_turns(variants, COLD_ROUNDS)


def run_python(statement: str, folder: Path) -> None:
    """Run a statement in a fresh Python that sees the package alone."""
    command = [sys.executable, "-S", "-c", statement]
    subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(folder)}, check=True)


def report(
    package: Path,
    cold: dict[str, Samples],
    warm: dict[str, Samples],
    memory: dict[str, int],
    imports: dict[str, Samples],
) -> str:
    """Return all figures as Markdown."""
    ratio = cold["easel"].median / cold["bare chalice"].median
    overhead = warm["easel"].median - warm["bare handler"].median
    powertools = imports["powertools"].median - imports["json and logging"].median
    rows = [
        *(
            (f"cold start, {name}", f"{each.median:.0f} ms", each.spread)
            for name, each in cold.items()
        ),
        ("cold start, ratio", f"{ratio:.2f}", "at most 1.5"),
        *((f"warm, {name}", f"{each.median:.1f} ms", each.spread) for name, each in warm.items()),
        ("warm, overhead", f"{overhead:.1f} ms", "at most 3"),
        ("import of Powertools", f"{powertools:.0f} ms", "beside json and logging"),
        *((f"memory, {name}", f"{peak / 1e6:.0f} MB", "") for name, peak in memory.items()),
        (
            "zip",
            f"{package.stat().st_size / 1e6:.1f} MB",
            f"{unpacked(package) / 1e6:.0f} MB unpacked",
        ),
    ]
    return f"{machine()}\n\n{table(('figure', 'median', 'quartiles or aim'), rows)}"


def unpacked(package: Path) -> int:
    """Return the size of a zip's content in bytes."""
    with zipfile.ZipFile(package) as archive:
        return sum(each.file_size for each in archive.infolist())


def check(payload: object) -> None:
    """Make sure that it was a picture that was timed."""
    if not isinstance(payload, dict) or payload.get("statusCode") != 200:
        raise RuntimeError(f"no picture: {str(payload)[:500]}")
    if not base64.b64decode(payload["body"]).startswith(b"\x89PNG"):
        raise RuntimeError("no PNG")


# --- The stub endpoint ----------------------------------------------------------------------------


@contextmanager
def stub_endpoint() -> Iterator[str]:
    """Answer every InvokeEndpoint at once with the same PNG of about 1.5 MB."""
    png = noise_png(850, 600)

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            self.body()
            self.answer(200, [("Content-Type", "image/png")], png)

    with serving(Handler) as server:
        yield server.url


def noise_png(width: int, height: int) -> bytes:
    """Return a PNG that does not compress: 3 bytes a pixel."""
    noise = random.Random(0)
    rows = b"".join(b"\0" + noise.randbytes(width * 3) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


if __name__ == "__main__":
    sys.exit(main())
