"""The gateway's Lambda: cold start, warm overhead, memory and size.

    python -m tests.benchmarks.sections.gateway

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
from typing import NamedTuple

from endpoint.emulator.lambda_.lambda_runtime import LambdaFunction
from endpoint.emulator.process.http_server import QuietHandler, serving
from tests.benchmarks.lib.measuring import Samples, in_turns, milliseconds
from tests.benchmarks.lib.processes import processor_milliseconds
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, run_alone
from tests.packages import package_gateway, proxy_event

COLD_ROUNDS = 15
WARM_ROUNDS = 200
EVENT = proxy_event("/inference/a%20cat", "/inference/{text}", text="a%20cat")

PACKAGES = ("chalice", "boto3", "aws-lambda-powertools", "awslambdaric")
TEXT = """\
What `chalice package` makes, in a process of AWS's Runtime Interface Client, in front of an HTTP
server that answers InvokeEndpoint at once with a PNG of 1.5 MB. A cold start is everything from the
start of the process to the first picture. Baselines are the least that could do the work with the
same tools: for the cold start a Chalice app that makes one boto3 client and passes the picture on,
for a warm visit a handler that only calls InvokeEndpoint and encodes base64.
"""

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


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    rounds = Rounds(2, 5) if quick else Rounds(COLD_ROUNDS, WARM_ROUNDS)
    with tempfile.TemporaryDirectory() as folder, stub_endpoint() as url:
        package = package_gateway(Path(folder, "package")) / "deployment.zip"
        folders = unpack(package, Path(folder))
        environment = variables(url)
        cold = measure_cold(folders, environment, rounds.cold)
        warm, memory = measure_warm(folders, environment, rounds.warm)
        imports = measure_imports(folders["easel"], rounds.cold)
        return report(package, cold, warm, memory, imports)


def variables(url: str) -> dict[str, str]:
    """Return the Lambda's own variables, with AWS at `url`."""
    return {"AWS_ENDPOINT_URL": url, "EASEL_MODELS": '{"sd": {"endpoint": "easel-sd"}}'}


class Rounds(NamedTuple):
    """How often the slow and the fast things are measured."""

    cold: int
    warm: int


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


def measure_cold(
    folders: dict[str, Path], environment: dict[str, str], rounds: int
) -> dict[str, Samples]:
    """Start each variant anew, time after time, until its first picture.

    What is said of a variant's computing is how long its process had the processor until then.
    """
    names = ("easel", "bare chalice")
    computing: dict[str, list[float]] = {name: [] for name in names}
    variants = {
        name: functools.partial(cold_start, folders[name], environment, computing[name])
        for name in names
    }
    samples = in_turns(variants, rounds)
    return samples | {f"{name}, computing": Samples(tuple(computing[name])) for name in names}


def cold_start(folder: Path, environment: dict[str, str], computing: list[float]) -> float:
    """Return the milliseconds from the process's start to the first picture.

    How many of them the process computed for is put into `computing`.
    """
    with LambdaFunction(folder, environment, output=subprocess.DEVNULL) as function:
        result = function.invoke(EVENT)
        check(result.payload)
        computing.append(processor_milliseconds(function.pids[0]))
        return (float(result.init_duration or 0) + result.duration) * 1_000


def measure_warm(
    folders: dict[str, Path], environment: dict[str, str], rounds: int
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
        before = [processor_milliseconds(each.pids[0]) for each in (ours, bare)]
        samples = in_turns(variants, rounds)
        for name, function, start in zip(variants, (ours, bare), before, strict=True):
            each = (processor_milliseconds(function.pids[0]) - start) / rounds
            samples[f"{name}, computing"] = Samples((each, each))
        return samples, {"easel": ours.max_rss(), "bare handler": bare.max_rss()}


def measure_imports(folder: Path, rounds: int) -> dict[str, Samples]:
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
    return in_turns(variants, rounds)


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
) -> Section:
    """Return all figures beside their baselines."""
    powertools = (Figure.of(imports["powertools"]), Figure.of(imports["json and logging"]))
    rows = (
        Row(
            "cold start, to the first picture",
            "ms",
            Figure.of(cold["easel"]),
            "bare Chalice app",
            Figure.of(cold["bare chalice"]),
            Aim("ratio", at_most=1.5),
        ),
        Row(
            "cold start, processor time",
            "ms",
            Figure.of(cold["easel, computing"]),
            "bare Chalice app",
            Figure.of(cold["bare chalice, computing"]),
            Aim("ratio", at_most=1.5),
            "other work on the machine is not in it",
        ),
        Row(
            "warm visit",
            "ms",
            Figure.of(warm["easel"]),
            "bare handler",
            Figure.of(warm["bare handler"]),
            Aim("difference", at_most=3),
        ),
        Row(
            "warm visit, processor time",
            "ms",
            Figure(warm["easel, computing"].median),
            "bare handler",
            Figure(warm["bare handler, computing"].median),
            Aim("difference", at_most=3),
            "mean",
        ),
        Row(
            "import of Powertools",
            "ms",
            powertools[0],
            "json and logging",
            powertools[1],
            note="start of Python included; a part of the cold start",
        ),
        Row(
            "memory, peak",
            "MB",
            _megabytes(memory["easel"]),
            "bare handler",
            _megabytes(memory["bare handler"]),
            Aim("value", at_most=128),
            "the smallest Lambda has 128 MB",
        ),
        Row("zip", "MB", _megabytes(package.stat().st_size), aim=Aim("value", at_most=50)),
        Row("unpacked", "MB", _megabytes(unpacked(package)), aim=Aim("value", at_most=250)),
    )
    return Section("The gateway's Lambda", TEXT, rows, packages=PACKAGES)


def _megabytes(size: int) -> Figure:
    return Figure(round(size / 1e6, 1))


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
    run_alone(section)
