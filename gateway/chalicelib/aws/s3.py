"""Objects in S3 under a prefix: the only storage of the gateway. botocore's errors end here.

S3 refuses a write with `If-None-Match: *` or `If-Match` with 412 when another writer was faster:
this makes it a lock without a database.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.clients import Client
from chalicelib.aws.deadline import DeadlinePassed, shared
from chalicelib.errors import StoreUnavailable

# The response to HEAD has no body, so its status is the code. Without s3:ListBucket S3 returns 403
# for a missing object: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
_MISSING = {"404", "NoSuchKey", "NoSuchUpload"}
# 412: the condition does not hold. 409: two conditional writes met, and this one lost.
_TAKEN = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_LONGEST_PAGE = 1_000  # S3's own
_FAILURES = (BotoCoreError, DeadlinePassed)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Stored:
    """An object.

    Attributes:
        body: its content.
        size: in bytes.
        tag: identifies this version of it.
        changed: when it was written, in seconds since 1970.
    """

    body: bytes
    size: int
    tag: str
    changed: int


@dataclass(frozen=True)
class Listed:
    """An object in a list.

    Attributes:
        key: below the store's prefix.
        size: in bytes.
        tag: identifies this version of it.
        changed: when it was written, in seconds since 1970.
    """

    key: str
    size: int
    tag: str
    changed: int


@dataclass(frozen=True)
class UploadForm:
    """The address and the fields of a form; the file is its last field, `file`."""

    url: str
    fields: dict[str, str]


class Store:
    """A bucket's objects below a prefix.

    Args:
        s3: provides the S3 client.
        bucket: its name.
        prefix: ends with a slash, or is empty.
    """

    def __init__(self, s3: Client, bucket: str, prefix: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._prefix = prefix

    def read(self, key: str, longest: int | None = None) -> Stored | None:
        """Return an object, or None if there is none.

        The content of an object larger than `longest` bytes is not read.

        Raises:
            StoreUnavailable: if S3 returns neither.
        """
        return _existing(lambda: self._read(key, longest))

    def _read(self, key: str, longest: int | None) -> Stored:
        response = self._s3.client().get_object(**self._address(key))
        # The body is still on the network: reading it can fail as well.
        size = int(response["ContentLength"])
        body = response["Body"].read() if longest is None or size <= longest else b""
        # An unread body would keep its connection from being used again.
        response["Body"].close()
        changed = int(response["LastModified"].timestamp())
        return Stored(body, size, response["ETag"], changed)

    def read_start(self, key: str, length: int) -> bytes | None:
        """Return an object's first bytes, or None if there is none; raises StoreUnavailable."""
        return self.read_part(key, 0, length)

    def read_part(self, key: str, start: int, end: int) -> bytes | None:
        """Return an object's bytes from `start` up to `end`; None and errors as `read`.

        Args:
            key: of an object of more than `start` bytes.
            start: of the first byte, counted from 0.
            end: of the first byte that is left out.
        """
        return _existing(lambda: self._read_bytes(key, start, end))

    def _read_bytes(self, key: str, start: int, end: int) -> bytes:
        part = f"bytes={start}-{end - 1}"
        body = self._s3.client().get_object(**self._address(key), Range=part)["Body"]
        content: bytes = body.read()
        body.close()
        return content

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None if there is none; raises StoreUnavailable."""
        head = _existing(lambda: self._s3.client().head_object(**self._address(key)))
        return None if head is None else int(head["ContentLength"])

    def create(self, key: str, body: bytes) -> str | None:
        """Write an object that must not exist yet.

        Returns:
            Its tag; None if another writer was first.

        Raises:
            StoreUnavailable: if S3 did not confirm the write. It may have happened nevertheless.
        """
        return self._put(key, body, IfNoneMatch="*")

    def replace(self, key: str, body: bytes, tag: str) -> str | None:
        """Replace the version of an object that `tag` identifies; otherwise as `create`."""
        return self._put(key, body, IfMatch=tag)

    def write(self, key: str, body: bytes) -> None:
        """Write an object, whether or not it exists; raises StoreUnavailable."""
        if self._put(key, body) is None:  # which only a condition explains
            raise _unavailable()

    def delete(self, key: str, tag: str | None = None) -> None:
        """Delete an object, whether or not it exists; with a tag, only that version of it.

        Raises:
            StoreUnavailable: if S3 did not confirm it. It may have happened nevertheless.
        """
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
        condition = {} if tag is None else {"IfMatch": tag}
        address = {**self._address(key), **condition}
        try:
            shared().keep(lambda: self._s3.client().delete_object(**address))
        except ClientError as error:
            if tag is None or _code(error) not in _TAKEN | _MISSING:
                raise _unavailable() from error
        except _FAILURES as error:
            raise _unavailable() from error

    def listed(self, start: str = "", most: float = math.inf) -> list[Listed]:
        """Return at most `most` objects whose keys begin with `start`, in the order of their keys.

        Raises:
            StoreUnavailable: if S3 does not return them.
        """
        return _called(lambda: self._listed(start, most))

    def _listed(self, start: str, most: float) -> list[Listed]:
        found: list[Listed] = []
        more: dict[str, str] = {}
        while len(found) < most:
            page = self._s3.client().list_objects_v2(
                Bucket=self._bucket,
                Prefix=self._prefix + start,
                MaxKeys=int(min(most - len(found), _LONGEST_PAGE)),
                **more,
            )
            found += [
                Listed(
                    one["Key"].removeprefix(self._prefix),
                    int(one["Size"]),
                    one["ETag"],
                    int(one["LastModified"].timestamp()),
                )
                for one in page.get("Contents", [])
            ]
            if not page.get("IsTruncated"):
                break
            more = {"ContinuationToken": page["NextContinuationToken"]}
        return found

    def count_folders(self, start: str, most: int) -> int:
        """Return how many folders there are in the folder `start`, at most `most`.

        Raises:
            StoreUnavailable: if S3 does not say.
        """
        place = {"Bucket": self._bucket, "Prefix": self._prefix + start, "Delimiter": "/"}
        page = _called(lambda: self._s3.client().list_objects_v2(**place, MaxKeys=most))
        return len(page.get("CommonPrefixes", []))

    def upload_form(self, key: str, media_type: str, largest: int, seconds: int) -> UploadForm:
        """Return a form with which anyone can upload this one object for a number of seconds.

        S3 checks the key, the media type and the size: from 1 to `largest` bytes.
        https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
        """
        fields = {"Content-Type": media_type}
        form = self._s3.client().generate_presigned_post(
            **self._address(key),
            Fields=dict(fields),
            Conditions=[fields, ["content-length-range", 1, largest]],
            ExpiresIn=seconds,
        )
        return UploadForm(str(form["url"]), dict(form["fields"]))

    def upload_origin(self) -> str:
        """Return the origin that forms are sent to, for the policy of a page that sends them."""
        # Nothing is asked: a form is signed here. The address depends on the bucket alone.
        address = urlsplit(self.upload_form("any", "text/plain", 1, 1).url)
        return f"{address.scheme}://{address.netloc}"

    def link(self, key: str, seconds: int, **headers: str) -> str:
        """Return a URL with which anyone can fetch the object for a number of seconds."""
        return str(
            # Signed with the role's temporary credentials, so it ends with them if that is earlier:
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
            self._s3.client().generate_presigned_url(
                "get_object", Params={**self._address(key), **headers}, ExpiresIn=seconds
            )
        )

    def upload_link(self, key: str, size: int, seconds: int) -> str:
        """Return a URL to which anyone can PUT the object, of exactly `size` bytes."""
        return str(
            self._s3.client().generate_presigned_url(
                "put_object",
                Params={**self._address(key), "ContentLength": size},
                ExpiresIn=seconds,
            )
        )

    # --- An object of more than one call: its parts have 5 MiB at least, but for the last ---------

    def begin_upload(self, key: str, media_type: str) -> str:
        """Begin an object that is put together of parts, and return its name; as `read`."""
        return str(
            _called(
                lambda: self._s3.client().create_multipart_upload(
                    **self._address(key), ContentType=media_type
                )
            )["UploadId"]
        )

    def uploaded_parts(self, key: str, upload: str) -> dict[int, str] | None:
        """Return the tags of the parts that are there by number; None if the upload is over."""
        found: dict[int, str] = {}
        after = 0
        while True:
            page = _existing(
                lambda start=after: self._s3.client().list_parts(  # type: ignore[misc]
                    **self._address(key), UploadId=upload, PartNumberMarker=start
                )
            )
            if page is None:
                return None
            found |= {int(one["PartNumber"]): str(one["ETag"]) for one in page.get("Parts", [])}
            if not page.get("IsTruncated"):
                return found
            after = max(found)

    def upload_part(self, key: str, upload: str, number: int, body: bytes) -> str:
        """Store a part, counted from 1, and return its tag; raises StoreUnavailable."""
        place = {**self._address(key), "UploadId": upload, "PartNumber": number}
        return str(_called(lambda: self._s3.client().upload_part(**place, Body=body))["ETag"])

    def copy_part(self, key: str, upload: str, number: int, source: str) -> str:
        """Make a part of another object of this store; otherwise as `upload_part`."""
        place = {**self._address(key), "UploadId": upload, "PartNumber": number}
        copied = _called(
            lambda: self._s3.client().upload_part_copy(**place, CopySource=self._address(source))
        )
        return str(copied["CopyPartResult"]["ETag"])

    def end_upload(self, key: str, upload: str, tags: Mapping[int, str]) -> None:
        """Make the object of its parts; raises StoreUnavailable."""
        parts = [{"PartNumber": number, "ETag": tags[number]} for number in sorted(tags)]
        place = {**self._address(key), "UploadId": upload}
        _called(
            lambda: self._s3.client().complete_multipart_upload(
                **place, MultipartUpload={"Parts": parts}
            )
        )

    def key_of(self, location: str | None) -> str | None:
        """Return the key of an `s3://` address below this prefix, or None for any other."""
        start = f"s3://{self._bucket}/{self._prefix}"
        return location.removeprefix(start) if location and location.startswith(start) else None

    def _put(self, key: str, body: bytes, **condition: str) -> str | None:
        try:
            written = shared().keep(
                lambda: self._s3.client().put_object(**self._address(key), Body=body, **condition)
            )
            return str(written["ETag"])
        except ClientError as error:
            # An object that was deleted has no version to replace, which S3 reports as 404.
            if _code(error) in _TAKEN | _MISSING:
                return None
            raise _unavailable() from error
        except _FAILURES as error:
            raise _unavailable() from error

    def _address(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}


def _called(call: Callable[[], Result]) -> Result:
    """Return what a call returns, before the request's deadline; raises StoreUnavailable."""
    try:
        return shared().keep(call)
    except (ClientError, *_FAILURES) as error:
        raise _unavailable() from error


def _existing(call: Callable[[], Result]) -> Result | None:
    """Return what a call returns, or None if there is no such object; raises StoreUnavailable."""
    try:
        return shared().keep(call)
    except ClientError as error:
        if _code(error) in _MISSING:
            return None
        raise _unavailable() from error
    except _FAILURES as error:
        raise _unavailable() from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable("The store of pictures did not answer as it should.")
