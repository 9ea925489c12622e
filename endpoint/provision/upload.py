"""Uploading weights: several parts at once, little memory, and on from where it stopped.

A file goes up in parts of 16 MiB. When an upload breaks off, its finished parts stay in S3 (the
bucket's lifecycle rule removes them after a week); the next one compares their checksums with the
file here and sends only what is missing. Files that an earlier version has already are copied
inside S3.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from hashlib import md5
from pathlib import Path
from typing import Any

from endpoint.aws.bucket import Bucket
from endpoint.core.clock import Clock
from endpoint.core.console import Console
from endpoint.core.problems import AGAIN, UploadFailed
from endpoint.provision.payload import File, manifest_key

_PART = 16 * 1024 * 1024
_MOST_PARTS = 10_000  # S3's limit per object
# Each thread holds one part: 6 x 16 MiB at a time.
_THREADS = 6


class Upload:
    """Brings files below a prefix of the bucket.

    Args:
        pretend: only say what would be uploaded.
        part: the size of a part in bytes, for files that need no larger ones.
    """

    def __init__(
        self,
        bucket: Bucket,
        console: Console,
        clock: Clock,
        *,
        pretend: bool = False,
        part: int = _PART,
    ) -> None:
        self._bucket = bucket
        self._console = console
        self._clock = clock
        self._pretend = pretend
        self._part = part

    def ensure(self, prefix: str, files: list[File]) -> None:
        """Upload what is not there yet; return when all of it is.

        Raises:
            UploadFailed: if a file here cannot be read, or changes meanwhile.
            ClientError: if S3 refuses; what is there stays there.
        """
        there = self._bucket.sizes(prefix)
        missing = [file for file in files if there.get(prefix + file.place) != file.size]
        total = sum(file.size for file in missing)
        if self._pretend:
            self._console.say(f"  would upload {len(missing)} files, {total / 1e9:.2f} GB")
            return
        missing = self._copy_known(prefix, missing)
        self._send(prefix, missing)
        manifest = {file.place: file.sha256 for file in files}
        self._bucket.put(manifest_key(prefix), json.dumps(manifest).encode())

    def _copy_known(self, prefix: str, files: list[File]) -> list[File]:
        """Copy what an earlier version of the model has; return the rest."""
        if not files:
            return []
        known = self._known(prefix)
        for file in files:
            if file.sha256 in known:
                self._console.say(f"  copying {file.place} inside S3")
                self._bucket.copy(known[file.sha256], prefix + file.place)
        return [file for file in files if file.sha256 not in known]

    def _known(self, prefix: str) -> dict[str, str]:
        """Return the keys of the files of earlier versions, by their SHA-256."""
        folder = manifest_key(prefix).rpartition("/")[0] + "/"
        there = self._bucket.sizes(prefix.rstrip("/").rpartition("/")[0] + "/")
        known: dict[str, str] = {}
        for key in self._bucket.sizes(folder):
            before = "models/" + key.removeprefix("manifests/").removesuffix(".json") + "/"
            for place, content in json.loads(self._bucket.get(key) or b"{}").items():
                if before + place in there:
                    known[content] = before + place
        return known

    def _send(self, prefix: str, files: list[File]) -> None:
        progress = _Progress(self._console, self._clock, sum(file.size for file in files))
        begun = {upload["Key"]: upload for upload in _newest_last(self._bucket.uploads(prefix))}
        small = [file for file in files if file.size <= self._part]
        with ThreadPoolExecutor(_THREADS) as threads:
            jobs = [(self._put, prefix + file.place, file) for file in small]
            _run(threads, jobs, progress)
            for file in files:
                if file.size > self._part:
                    key = prefix + file.place
                    self._send_in_parts(threads, key, file, begun.get(key), progress)

    def _put(self, key: str, file: File) -> int:
        with _reading(file.path):
            body = file.path.read_bytes()
        self._bucket.put(key, body)
        return len(body)

    def _send_in_parts(
        self,
        threads: ThreadPoolExecutor,
        key: str,
        file: File,
        begun: dict[str, Any] | None,
        progress: _Progress,
    ) -> None:
        client, name = self._bucket.client, self._bucket.name
        if begun is None:
            begun = client.create_multipart_upload(Bucket=name, Key=key)
        upload = {"Bucket": name, "Key": key, "UploadId": begun["UploadId"]}
        size = max(self._part, -(-file.size // _MOST_PARTS))
        sender = _Sender(client, upload, file, size)
        try:
            done = sender.finished_parts()
            progress.add(sum(sender.length(number) for number in done))
            jobs = [(sender.send, number) for number in sender.numbers() if number not in done]
            _run(threads, jobs, progress)
            parts = [{"PartNumber": n, **part} for n, part in sorted((done | sender.sent).items())]
            client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        finally:
            sender.close()


class _Sender:
    """Sends the parts of one file, from any thread."""

    def __init__(self, client: Any, upload: dict[str, str], file: File, part: int) -> None:
        self._client = client
        self._upload = upload
        self._file = file
        self._part = part
        self.sent: dict[int, dict[str, str]] = {}
        with _reading(file.path):
            self._descriptor = os.open(file.path, os.O_RDONLY)

    def close(self) -> None:
        os.close(self._descriptor)

    def numbers(self) -> range:
        return range(1, -(-self._file.size // self._part) + 1)

    def length(self, number: int) -> int:
        return min(self._part, self._file.size - (number - 1) * self._part)

    def finished_parts(self) -> dict[int, dict[str, str]]:
        """Return the parts that S3 has and that are the same here."""
        pages = self._client.get_paginator("list_parts").paginate(**self._upload)
        return {
            part["PartNumber"]: _receipt(part)
            for page in pages
            for part in page.get("Parts", [])
            if part["Size"] == self.length(part["PartNumber"])
            and _same(part, self._read(part["PartNumber"]))
        }

    def send(self, number: int) -> int:
        body = self._read(number)
        answer = self._client.upload_part(**self._upload, PartNumber=number, Body=body)
        self.sent[number] = _receipt(answer)
        return len(body)

    def _read(self, number: int) -> bytes:
        with _reading(self._file.path):
            body = os.pread(self._descriptor, self.length(number), (number - 1) * self._part)
        if len(body) != self.length(number):
            raise UploadFailed(f"{self._file.path} became shorter while it was read.", AGAIN)
        return body


def _receipt(part: dict[str, Any]) -> dict[str, str]:
    """Return what completing the upload needs to know of a part."""
    return {key: part[key] for key in ("ETag", "ChecksumCRC32") if part.get(key)}


def _same(part: dict[str, Any], body: bytes) -> bool:
    """Whether a part in S3 has these bytes; with this bucket's encryption an ETag is an MD5."""
    if part.get("ChecksumCRC32"):
        checksum = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        return bool(part["ChecksumCRC32"] == checksum)
    return bool(part["ETag"].strip('"') == md5(body, usedforsecurity=False).hexdigest())


def _newest_last(uploads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(uploads, key=lambda upload: upload["Initiated"])


def _run(threads: ThreadPoolExecutor, jobs: Iterable[tuple[Any, ...]], progress: _Progress) -> None:
    """Run jobs that return bytes sent; the first error ends them all."""
    futures = [threads.submit(*job) for job in jobs]
    try:
        for future in as_completed(futures):
            progress.add(future.result())
    except BaseException:
        for future in futures:
            future.cancel()
        raise


class _Progress:
    """Shows how much has gone up."""

    def __init__(self, console: Console, clock: Clock, total: int) -> None:
        self._console = console
        self._clock = clock
        self._total = total
        self._done = 0
        self._start = clock.monotonic()

    def add(self, size: int) -> None:
        self._done += size
        seconds = max(self._clock.monotonic() - self._start, 0.001)
        phase = (
            f"uploading weights: {self._done / 1e9:.2f} of {self._total / 1e9:.2f} GB,"
            f" {self._done / 1e6 / seconds:.0f} MB/s"
        )
        if self._console.overwrites or self._done >= self._total:
            self._console.waiting(phase, self._start)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UploadFailed(f"{path} cannot be read: {error}", AGAIN) from error
