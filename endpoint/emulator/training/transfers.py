"""Files of a training job on their way from and to S3."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from endpoint.emulator.training.errors import JobFailed


def split(uri: str) -> tuple[str, str]:
    """Return bucket and key of an address such as s3://bucket/a/key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


class Transfers:
    """Copies between folders and S3, in the name of the training job's role.

    Args:
        s3: a boto3 client.
    """

    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    def keys(self, uri: str) -> Iterator[str]:
        """Return the keys that begin with an address."""
        bucket, prefix = split(uri)
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            yield from (item["Key"] for item in page.get("Contents", []))

    def download(self, uri: str, folder: Path) -> None:
        """Copy the objects below an address into a folder, under the rest of their keys.

        Raises:
            JobFailed: as SageMaker words it where the role lacks a right.
        """
        folder.mkdir(parents=True, exist_ok=True)
        bucket, prefix = split(uri)
        with _refusals("Data download failed", uri):
            for key in self.keys(uri):
                # An object of exactly this key, and one in a "folder" without the last slash.
                name = key[len(prefix) :].lstrip("/") or key.rpartition("/")[2]
                if name and not name.endswith("/"):
                    self._fetch(bucket, key, _inside(folder, name))

    def _fetch(self, bucket: str, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for part in self._s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
                file.write(part)

    def upload(self, folder: Path, uri: str) -> None:
        """Copy a folder's files below an address that ends in a slash."""
        bucket, prefix = split(uri)
        for name in files(folder):
            self.put(folder / name, bucket, prefix + name)

    def upload_packed(self, folder: Path, uri: str) -> None:
        """Copy a folder to an address as one tar.gz file; raises JobFailed if that is refused."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name in files(folder):
                archive.add(folder / name, name)
        self._put(packed.getvalue(), *split(uri))

    def put(self, path: Path, bucket: str, key: str) -> None:
        """Copy one file; raises JobFailed if that is refused."""
        # Read first: a file that grows meanwhile would not have the length that is announced.
        self._put(path.read_bytes(), bucket, key)

    def _put(self, content: bytes, bucket: str, key: str) -> None:
        with _refusals("Artifact upload failed", f"s3://{bucket}/{key}"):
            self._s3.put_object(Bucket=bucket, Key=key, Body=content)

    def delete(self, bucket: str, key: str) -> None:
        """Delete one object; raises JobFailed if that is refused."""
        with _refusals("Artifact upload failed", f"s3://{bucket}/{key}"):
            self._s3.delete_object(Bucket=bucket, Key=key)


@contextmanager
def _refusals(what: str, uri: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        raise JobFailed(f"ClientError: {what}:{code}: {uri}: {message}") from error


class Mirror:
    """Keeps the objects below an address as the files of a folder are.

    "SageMaker AI copies checkpoints ... to Amazon S3 ... any files in the local directory are
    synchronised": a deleted file is deleted there as well. Objects that others put there later do
    not come in.
    https://docs.aws.amazon.com/sagemaker/latest/dg/model-checkpoints.html
    """

    def __init__(self, transfers: Transfers, folder: Path, uri: str) -> None:
        self._transfers, self._folder = transfers, folder
        self._bucket, prefix = split(uri)
        self._prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        self._states: dict[str, tuple[int, int]] = {}

    def download(self) -> None:
        """Fill the folder with what earlier attempts and jobs left there."""
        self._transfers.download(f"s3://{self._bucket}/{self._prefix}", self._folder)
        self._states = _states(self._folder)

    def upload(self) -> None:
        """Copy what has changed since, and delete what is gone."""
        present = _states(self._folder)
        for name, state in present.items():
            if self._states.get(name) != state:
                with suppress(FileNotFoundError):  # renamed or deleted since
                    self._transfers.put(self._folder / name, self._bucket, self._prefix + name)
        for name in self._states.keys() - present.keys():
            self._transfers.delete(self._bucket, self._prefix + name)
        self._states = present


def files(folder: Path) -> list[str]:
    """Return the paths of a folder's files below it, sorted; links are left out."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    )


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    states = {}
    for name in files(folder):
        with suppress(FileNotFoundError):
            status = (folder / name).stat()
            states[name] = (status.st_mtime_ns, status.st_size)
    return states


def _inside(folder: Path, name: str) -> Path:
    if ".." in Path(name).parts:
        raise JobFailed(f"ClientError: Data download failed: {name!r} is no path of a file")
    return folder / name
