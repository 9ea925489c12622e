"""Throughput and memory of `--weights s3`, against `aws s3 cp --recursive` and tar, pigz and copy.

    python -m tests.benchmarks.sections.endpoint.weights_upload
        [--gigabytes 2] [--files 5] [--aws aws] [--rounds 3]

Random data, which compresses like weights, is uploaded to an S3 server in another process on this
machine. The server reads and discards every byte, so that only the client is measured. Each variant
runs in its own process; its memory is the largest resident set, as reported by the kernel.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from endpoint.emulator.process import clients
from tests.benchmarks.lib.processes import megabytes, process_tree
from tests.benchmarks.lib.report import Figure, Row, Section, print_section

EASEL = "easel --weights s3"
TEXT = """\
{gigabytes:g} GB of random data in {files} files are uploaded to an S3 server on this machine that
reads and discards every byte. Each variant runs in its own process; its memory is the largest
resident set. The baselines use {aws}; {gzip} writes its archive to disk first, like a model.tar.gz.
"""
BUCKET = "easel-main-123456789012-us-east-1"
_CHUNK = 1 << 20


class Knobs(NamedTuple):
    """What the command line sets."""

    gigabytes: float = 2
    files: int = 5
    rounds: int = 3
    aws: str = "aws"


class _Sink(BaseHTTPRequestHandler):
    """The part of S3's API that an upload uses; bodies are read and discarded."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def handle_expect_100(self) -> bool:
        """Respond without delay: a client waits a second, and then sends its body anyway."""
        proceed = super().handle_expect_100()
        self.wfile.flush()
        return proceed

    def do_PUT(self) -> None:
        self._swallow()
        self._answer(b"", ETag=f'"{hashlib.md5(self.path.encode()).hexdigest()}"')  # noqa: S324

    def do_POST(self) -> None:
        self._swallow()
        key = self.path.partition("?")[0]
        result = "InitiateMultipartUploadResult" if "uploads" in self.path else _COMPLETED
        self._answer(
            f"<{result}><Bucket>{BUCKET}</Bucket><Key>{key}</Key><UploadId>1</UploadId>"
            f'<ETag>"1"</ETag></{result}>'.encode()
        )

    def do_GET(self) -> None:
        kind = "ListMultipartUploadsResult" if "uploads" in self.path else "ListBucketResult"
        kind = "ListPartsResult" if "uploadId" in self.path else kind
        self._answer(f"<{kind}><IsTruncated>false</IsTruncated></{kind}>".encode())

    def _swallow(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self._skip(size + 2)
            while self.rfile.readline().strip():
                pass
        else:
            self._skip(int(self.headers.get("Content-Length") or 0))

    def _skip(self, size: int) -> None:
        while size:
            read = len(self.rfile.read(min(size, _CHUNK)))
            if not read:
                raise ConnectionError("connection closed")
            size -= read

    def _answer(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


_COMPLETED = "CompleteMultipartUploadResult"


def _serve(ready: multiprocessing.Queue[int]) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    ready.put(server.server_address[1])
    server.serve_forever()


def make_files(folder: Path, gigabytes: float, count: int) -> None:
    """Write a folder with the file names of a model and random bytes."""
    folder.mkdir()
    (folder / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    (folder / "unet").mkdir()
    for number in range(1, count + 1):
        name = f"unet/model-{number:05}-of-{count:05}.safetensors"
        with (folder / name).open("wb") as file:
            left = int(gigabytes * 1e9 / count)
            while left > 0:
                left -= file.write(os.urandom(min(left, 16 * _CHUNK)))


# Easel's variant; {folder} and {bucket} are filled in.
_EASEL = """
import boto3
from pathlib import Path
from endpoint.provision.files.payload import File
from endpoint.aws.bucket import Bucket
from endpoint.core.clock import Clock
from endpoint.core.console import Console
from endpoint.provision.files.upload import Upload
clock = Clock()
console = Console(clock)
folder = Path("{folder}")
paths = sorted(path for path in folder.rglob("*") if path.is_file())
model_files = [File.read(path, path.relative_to(folder).as_posix()) for path in paths]
upload = Upload(Bucket(boto3.client("s3"), "{bucket}"), console, clock)
upload.ensure("models/x/00000000/", model_files)
"""


def upload_commands(folder: Path, aws: str) -> dict[str, str]:
    """Return the shell command of each variant."""
    easel = _EASEL.format(folder=folder, bucket=BUCKET)
    script = folder.parent / "easel.py"
    script.write_text(easel)
    target = f"s3://{BUCKET}/models/x/"
    archive = folder.parent / "model.tar.gz"
    gzip = _packer()
    commands = {EASEL: f"{sys.executable} {script}"}
    if shutil.which(aws) is None:
        return commands
    return commands | {
        "aws s3 cp --recursive": f"{aws} s3 cp --quiet --recursive {folder} {target}",
        f"tar, {gzip}, aws s3 cp": f"tar -C {folder} -cf - . | {gzip} -c > {archive}"
        f" && {aws} s3 cp --quiet {archive} {target}",
    }


def _packer() -> str:
    return "pigz" if shutil.which("pigz") else "gzip"


def _version(aws: str) -> str:
    """Return the AWS CLI's name and version, such as aws-cli/2.1."""
    if shutil.which(aws) is None:
        return "no AWS CLI"
    shown = subprocess.run([aws, "--version"], capture_output=True, text=True, check=True)
    return shown.stdout.partition(" ")[0]


def run(command: str, environment: dict[str, str]) -> tuple[float, float]:
    """Return seconds and megabytes of the largest process."""
    timed = ["/usr/bin/env", "bash", "-c", f"set -o pipefail; {command}"]
    start = time.perf_counter()
    done = subprocess.Popen(
        timed, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    largest = 0.0
    while done.poll() is None:
        largest = max(largest, _largest_below(done.pid))
        time.sleep(0.05)
    if done.returncode:
        raise SystemExit(f"{command} failed: {done.stderr and done.stderr.read().decode()[-500:]}")
    return time.perf_counter() - start, largest


def _largest_below(pid: int) -> float:
    """Return the peak megabytes of the largest process among `pid` and its children."""
    return max(megabytes(each, "VmHWM") for each in process_tree(pid))


def section(quick: bool = False, knobs: Knobs | None = None) -> Section:
    """Measure all variants; those with the AWS CLI only if it is installed."""
    knobs = knobs or (Knobs(0.02, 2) if quick else Knobs())
    with _sink() as url, tempfile.TemporaryDirectory() as temporary:
        environment = _environment(url)
        folder = Path(temporary) / "model"
        make_files(folder, knobs.gigabytes, knobs.files)
        commands = upload_commands(folder, knobs.aws)
        runs = {
            name: [run(command, environment) for _ in range(knobs.rounds)]
            for name, command in commands.items()
        }
    text = TEXT.format(
        gigabytes=knobs.gigabytes, files=knobs.files, aws=_version(knobs.aws), gzip=_packer()
    )
    rows = [row for name in runs if name != EASEL for row in _rows(runs, name, knobs.gigabytes)]
    return Section(
        "Uploading weights", text, tuple(rows or _rows(runs, "", knobs.gigabytes)), "", ("boto3",)
    )


def _rows(runs: dict[str, list[tuple[float, float]]], other: str, gigabytes: float) -> list[Row]:
    """Return rows of throughput and memory against another variant."""
    figures = {
        name: (
            Figure(round(gigabytes * 1_000 / statistics.median(seconds for seconds, _ in each))),
            Figure(round(statistics.median(megabytes for _, megabytes in each))),
        )
        for name, each in runs.items()
    }
    theirs = figures.get(other, (None, None))
    return [
        Row("throughput", "MB/s", figures[EASEL][0], other, theirs[0], note="higher is better"),
        Row("memory of the largest process", "MB", figures[EASEL][1], other, theirs[1]),
    ]


@contextmanager
def _sink() -> Iterator[str]:
    ready: multiprocessing.Queue[int] = multiprocessing.Queue()
    server = multiprocessing.Process(target=_serve, args=(ready,), daemon=True)
    server.start()
    try:
        yield f"http://127.0.0.1:{ready.get()}"
    finally:
        server.terminate()
        server.join()


def _environment(url: str) -> dict[str, str]:
    return {
        **os.environ,
        **clients.environment(url, "us-east-1"),
        "PYTHONPATH": str(Path(__file__).parents[4]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--files", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--aws", default="aws", help="the AWS CLI")
    knobs = Knobs(**vars(parser.parse_args()))
    print_section(lambda: section(knobs=knobs))


if __name__ == "__main__":
    main()
