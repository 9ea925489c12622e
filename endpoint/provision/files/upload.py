"""Upload weights: several parts at once, in little memory, resumable.

A large file is sent in parts of 16 MiB. The finished parts of an interrupted upload stay in S3, and
the bucket's lifecycle rule removes them after a week. The next upload compares their checksums with
the local file and sends only the missing ones. Files of an earlier version are copied inside S3.
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

from endpoint.aws.bucket import Bucket, mark
from endpoint.core.clock import Clock
from endpoint.core.console import Console
from endpoint.core.problems import AGAIN, UploadFailed
from endpoint.provision.files.payload import File, manifest_key

# S3 requires at least 5 MiB for every part but the last:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_PART = 16 * 1024 * 1024
_MOST_PARTS = 10_000  # S3's limit per object
# Each thread holds one part: 6 x 16 MiB at a time.
_THREADS = 6


class Upload:
    """Stores files below a prefix of the bucket.

    Args:
        pretend: print what would be uploaded, and upload nothing.
        part: the size of a part in bytes; larger where S3's limit of 10,000 parts requires it.
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

    def ensure(self, prefix: str, files: list[File], *, like: str | None = None) -> None:
        """Upload the missing files, and write the manifest after the last one.

        Args:
            prefix: where they belong.
            files: all of them.
            like: the prefix of the versions whose files are copied; that of `prefix`, if None.

        Raises:
            UploadFailed: if a local file cannot be read, or changes during the upload.
            ClientError: if S3 refuses a call; finished files and parts stay in the bucket.
        """
        stored = self._bucket.sizes(prefix)
        missing = [file for file in files if stored.get(prefix + file.place) != file.size]
        total = sum(file.size for file in missing)
        if self._pretend:
            self._console.say(f"  would upload {len(missing)} files, {total / 1e9:.2f} GB")
            return
        folder = like or prefix.rstrip("/").rpartition("/")[0] + "/"
        missing = self._copy_earlier(prefix, missing, folder)
        self._send(prefix, missing)
        # Last, because a manifest states that its prefix is complete.
        manifest = {file.place: file.sha256 for file in files}
        self._bucket.put(manifest_key(prefix), json.dumps(manifest).encode())

    def _copy_earlier(self, prefix: str, files: list[File], folder: str) -> list[File]:
        """Copy the files that an earlier version of the model has; return the others."""
        if not files:
            return []
        earlier = self._earlier_keys(folder)
        for file in files:
            if file.sha256 in earlier:
                self._console.say(f"  copying {file.place} inside S3")
                self._bucket.copy(earlier[file.sha256], prefix + file.place)
        return [file for file in files if file.sha256 not in earlier]

    def _earlier_keys(self, folder: str) -> dict[str, str]:
        """Return the keys of earlier versions' files, by their SHA-256."""
        stored = self._bucket.sizes(folder)
        keys: dict[str, str] = {}
        manifests = manifest_key(folder).removesuffix(".json") + "/"
        for key in self._bucket.sizes(manifests):
            earlier = "models/" + key.removeprefix("manifests/").removesuffix(".json") + "/"
            for place, content in _read_manifest(self._bucket.get(key)).items():
                # A deletion that was interrupted can leave a manifest without its files.
                if earlier + place in stored:
                    keys[content] = earlier + place
        return keys

    def _send(self, prefix: str, files: list[File]) -> None:
        progress = _Progress(self._console, self._clock, sum(file.size for file in files))
        unfinished = {
            upload["Key"]: upload for upload in _newest_last(self._bucket.uploads(prefix))
        }
        small = [file for file in files if file.size <= self._part]
        # Small files in parallel; large files one after the other, each in parallel parts, so that
        # an interruption leaves at most one unfinished.
        with ThreadPoolExecutor(_THREADS) as threads:
            jobs = [(self._put, prefix + file.place, file) for file in small]
            _run(threads, jobs, progress)
            for file in files:
                if file.size > self._part:
                    key = prefix + file.place
                    self._send_in_parts(threads, key, file, unfinished.get(key), progress)

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
        unfinished: dict[str, Any] | None,
        progress: _Progress,
    ) -> None:
        client, name = self._bucket.client, self._bucket.name
        if unfinished is None:
            unfinished = client.create_multipart_upload(Bucket=name, Key=key, Metadata=mark(key))
        upload = {"Bucket": name, "Key": key, "UploadId": unfinished["UploadId"]}
        # Rounded up; only files above 156 GiB have larger parts.
        size = max(self._part, -(-file.size // _MOST_PARTS))
        sender = _Sender(client, upload, file, size)
        try:
            done = sender.finished_parts()
            progress.add(sum(sender.length(number) for number in done))
            jobs = [(sender.send, number) for number in sender.numbers() if number not in done]
            _run(threads, jobs, progress)
            # S3 requires ascending part numbers.
            parts = [{"PartNumber": n, **part} for n, part in sorted((done | sender.sent).items())]
            client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        finally:
            sender.close()


def _read_manifest(content: bytes | None) -> dict[str, str]:
    """Return a manifest; one that cannot be read lists nothing, and its files are sent again."""
    try:
        manifest = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return {}
    items = manifest.items() if isinstance(manifest, dict) else ()
    return {place: value for place, value in items if isinstance(value, str)}


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
        """Return the parts in S3 that are equal to the local file's."""
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
        response = self._client.upload_part(**self._upload, PartNumber=number, Body=body)
        self.sent[number] = _receipt(response)
        return len(body)

    def _read(self, number: int) -> bytes:
        with _reading(self._file.path):
            # Several threads share the descriptor, so there is no common position to seek.
            body = os.pread(self._descriptor, self.length(number), (number - 1) * self._part)
        if len(body) != self.length(number):
            raise UploadFailed(f"{self._file.path} became shorter during the upload.", AGAIN)
        return body


def _receipt(part: dict[str, Any]) -> dict[str, str]:
    """Return the fields of a part that completing the upload requires."""
    return {key: part[key] for key in ("ETag", "ChecksumCRC32") if part.get(key)}


def _same(part: dict[str, Any], body: bytes) -> bool:
    """Whether a part in S3 has these bytes; with the bucket's encryption an ETag is an MD5."""
    # botocore has sent a CRC-32 with every part since 1.36.
    if part.get("ChecksumCRC32"):
        checksum = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        return bool(part["ChecksumCRC32"] == checksum)
    # Without `usedforsecurity=False`, Python with a FIPS build of OpenSSL refuses MD5.
    return bool(part["ETag"].strip('"') == md5(body, usedforsecurity=False).hexdigest())


# A key can have several unfinished uploads; in a dictionary the last one wins.
def _newest_last(uploads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(uploads, key=lambda upload: upload["Initiated"])


def _run(threads: ThreadPoolExecutor, jobs: Iterable[tuple[Any, ...]], progress: _Progress) -> None:
    """Run jobs that return the bytes sent; the first error cancels the others."""
    futures = [threads.submit(*job) for job in jobs]
    try:
        for future in as_completed(futures):
            progress.add(future.result())
    except BaseException:  # an interruption as well
        for future in futures:
            future.cancel()
        raise


class _Progress:
    """Shows how much of the weights is uploaded."""

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
        # Without a terminal only the total is worth a line.
        if self._console.overwrites or self._done >= self._total:
            self._console.waiting(phase, self._start)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UploadFailed(f"{path} cannot be read: {error}", AGAIN) from error
