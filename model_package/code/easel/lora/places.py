"""Where adapters are published while the model runs: a folder, or a prefix in S3.

botocore is imported when S3 is first needed: most models have no such place. It is in AWS's images,
and in Easel's own.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from easel.lora.file import find_files
from generation import adapter_files

_S3 = re.compile(r"s3://([^/]+)/(.*)")
_PIECE = 2**20
_MOST_LISTED = 10_000
# A caller waits meanwhile. S3 answers in a tenth of a second.
_CONNECT_SECONDS, _READ_SECONDS, _ATTEMPTS = 2, 5, 2
_FETCH_SECONDS = 120


@dataclass(frozen=True)
class Listed:
    """A file in a place.

    Attributes:
        path: below the place.
        tag: differs for each content of the file.
        size: in bytes.
    """

    path: str
    tag: str
    size: int


class PlaceUnavailable(Exception):
    """The place could not be read; the reason is for the log."""


class FileChanged(Exception):
    """The file is not there any more, or is another one."""


class Place(Protocol):
    """A place with adapters' files."""

    def files(self) -> Mapping[str, Listed]:
        """Return the files by the names of their adapters; raises PlaceUnavailable."""

    def fetch(self, listed: Listed, path: Path) -> None:
        """Write a file's content to `path`.

        Raises:
            FileChanged: if it is not the listed one any more.
            PlaceUnavailable: if it cannot be read, or `path` not be written.
        """


def place_at(address: str, environ: Mapping[str, str]) -> Place:
    """Return the place at `s3://bucket/prefix/`, or in a folder of this name."""
    match = _S3.fullmatch(address)
    if match is None:
        return FolderPlace(Path(address))
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    return S3Place(match[1], match[2], region)


class FolderPlace:
    """A folder with adapters; one that does not exist has none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def files(self) -> dict[str, Listed]:
        listed = {}
        try:
            for name, path in find_files([self._folder]):
                listed[name] = self._listed(path.relative_to(self._folder).as_posix())
        except OSError as error:  # a file that was deleted meanwhile, or a folder without rights
            raise PlaceUnavailable(str(error)) from error
        return listed

    def fetch(self, listed: Listed, path: Path) -> None:
        source = self._folder / listed.path
        try:
            if source.is_file():
                shutil.copyfile(source, path)
            if not source.is_file() or self._listed(listed.path) != listed:
                raise FileChanged(listed.path)
        except OSError as error:
            raise PlaceUnavailable(str(error)) from error

    def _listed(self, path: str) -> Listed:
        status = (self._folder / path).stat()
        return Listed(
            path, f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}", status.st_size
        )


class S3Place:
    """The objects below a prefix, read with the container's own role.

    Args:
        bucket: its name.
        prefix: ends with a slash, or is empty.
        region: the bucket's; None for the one of the environment.
    """

    def __init__(self, bucket: str, prefix: str, region: str | None = None) -> None:
        self._bucket, self._prefix, self._region = bucket, prefix, region
        self._made: Any = None

    def files(self) -> dict[str, Listed]:
        with _translated():
            objects = {listed.path: listed for listed in self._objects()}
        return {name: objects[path] for name, path in adapter_files(objects).items()}

    def _objects(self) -> Iterator[Listed]:
        pages = (
            self._client()
            .get_paginator("list_objects_v2")
            .paginate(
                Bucket=self._bucket,
                Prefix=self._prefix,
                PaginationConfig={"MaxItems": _MOST_LISTED},
            )
        )
        for page in pages:
            for item in page.get("Contents", ()):
                path = item["Key"].removeprefix(self._prefix)
                yield Listed(path, item["ETag"], item["Size"])

    def fetch(self, listed: Listed, path: Path) -> None:
        until = time.monotonic() + _FETCH_SECONDS
        with _translated(), path.open("wb") as file:
            key = self._prefix + listed.path
            answer = self._client().get_object(Bucket=self._bucket, Key=key, IfMatch=listed.tag)
            for piece in answer["Body"].iter_chunks(_PIECE):
                file.write(piece)
                if time.monotonic() > until:
                    answer["Body"].close()
                    raise PlaceUnavailable(f"{key} took more than {_FETCH_SECONDS} s")

    def _client(self) -> Any:
        if self._made is None:
            import botocore.session
            from botocore.config import Config

            self._made = botocore.session.get_session().create_client(
                "s3",
                region_name=self._region,
                config=Config(
                    connect_timeout=_CONNECT_SECONDS,
                    read_timeout=_READ_SECONDS,
                    retries={"total_max_attempts": _ATTEMPTS},
                ),
            )
        return self._made


@contextmanager
def _translated() -> Iterator[None]:
    """Raise FileChanged or PlaceUnavailable for what botocore and the disk raise."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise PlaceUnavailable("this image has no botocore, which S3 requires") from error
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = error.response.get("Error", {}).get("Code")
        # 412: another content. NoSuchBucket is a 404 as well.
        if status == 412 or code == "NoSuchKey":
            raise FileChanged(str(error)) from error
        raise PlaceUnavailable(str(error)) from error
    except (BotoCoreError, OSError) as error:
        raise PlaceUnavailable(str(error)) from error
