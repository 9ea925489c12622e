"""S3: the deployment's bucket.

Every object that is stored here has a mark in its metadata, so that cleaning up can tell it from
what somebody else put into the bucket, whatever its place and name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.naming import digest
from endpoint.core.problems import code_of

# HEAD responses have no body, so S3 reports only the status as the code.
_MISSING = {"NoSuchBucket", "404", "NotFound"}
_EXISTS = {"PreconditionFailed", "ConditionalRequestConflict"}
_MARK = "easel-key"
_LARGEST_BATCH = 1000  # S3's limit of keys in one DeleteObjects


def mark(key: str) -> dict[str, str]:
    """Return the metadata of an object that Easel stores.

    It contains a hash of the key, because metadata is copied together with an object.
    """
    return {_MARK: digest(key)}


class Bucket:
    """One bucket.

    Attributes:
        name: its name.
        client: the S3 client, for uploads in parts.
    """

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name

    def exists(self) -> bool:
        """Whether the bucket exists; raises ClientError 403 if it is another account's."""
        try:
            self.client.head_bucket(Bucket=self.name)
        except ClientError as error:
            if code_of(error) in _MISSING:
                return False
            raise
        return True

    def tags(self) -> dict[str, str]:
        """Return the bucket's tags; empty without a bucket."""
        try:
            found = self.client.get_bucket_tagging(Bucket=self.name)["TagSet"]
        except ClientError as error:
            if code_of(error) in _MISSING | {"NoSuchTagSet"}:
                return {}
            raise
        return {tag["Key"]: tag["Value"] for tag in found}

    def sizes(self, prefix: str = "", *, after: str = "") -> dict[str, int]:
        """Return the sizes in bytes of all objects with a prefix; empty without a bucket.

        Args:
            prefix: of their keys.
            after: a text that their keys sort behind, for which S3 reads nothing before it.
        """
        pages = self.client.get_paginator("list_objects_v2")
        start = {"StartAfter": after} if after else {}
        sizes: dict[str, int] = {}
        try:
            for page in pages.paginate(Bucket=self.name, Prefix=prefix, **start):
                sizes |= {item["Key"]: item["Size"] for item in page.get("Contents", [])}
        except ClientError as error:
            if code_of(error) not in _MISSING:
                raise
        return sizes

    def size_of_versions(self) -> int:
        """Return the size in bytes of all versions of all objects; 0 without a bucket."""
        try:
            return sum(item.get("Size", 0) for item in self._versions())
        except ClientError as error:
            if code_of(error) not in _MISSING:
                raise
            return 0

    def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> str:
        """Store a small object in one call; return its version, empty in an unversioned bucket."""
        marked = {**(metadata or {}), **mark(key)}
        stored = self.client.put_object(Bucket=self.name, Key=key, Body=body, Metadata=marked)
        return str(stored.get("VersionId", ""))

    def put_new(self, key: str, body: bytes) -> bool:
        """Store a small object unless its key exists; return whether it was stored.

        S3 decides which of two callers is the first. The object has no mark.
        """
        try:
            self.client.put_object(Bucket=self.name, Key=key, Body=body, IfNoneMatch="*")
        except ClientError as error:
            # 409: another call of the same kind is being decided.
            if code_of(error) in _EXISTS:
                return False
            raise
        return True

    def current(self, key: str) -> tuple[str, dict[str, str]] | None:
        """Return the version and the metadata of an object; None if it does not exist."""
        try:
            response = self.client.head_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if code_of(error) in _MISSING | {"NoSuchKey"}:
                return None
            raise
        return str(response.get("VersionId", "")), response["Metadata"]

    def delete_version(self, key: str, version: str) -> None:
        """Delete one version of an object: the one before it is the current one again."""
        self._delete_versions([{"Key": key, "VersionId": version}])

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None if it does not exist."""
        try:
            response = self.client.get_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if code_of(error) in _MISSING | {"NoSuchKey"}:
                return None
            raise
        body: bytes = response["Body"].read()
        return body

    def copy(self, source: str, key: str) -> None:
        """Copy an object of any size inside the bucket; its bytes do not leave S3."""
        # The managed copy splits objects above 5 GB, the limit of one CopyObject.
        extra = {"Metadata": mark(key), "MetadataDirective": "REPLACE"}
        self.client.copy({"Bucket": self.name, "Key": source}, self.name, key, ExtraArgs=extra)

    def has_mark(self, key: str) -> bool:
        """Whether this class stored the object, and nobody replaced it; true if it is gone."""
        try:
            metadata = self.client.head_object(Bucket=self.name, Key=key)["Metadata"]
        except ClientError as error:
            if code_of(error) in _MISSING | {"NoSuchKey"}:
                return True
            raise
        return bool(metadata.get(_MARK) == mark(key)[_MARK])

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; S3 accepts keys that do not exist."""
        self._delete_versions({"Key": key} for key in keys)

    def uploads(self, prefix: str = "") -> list[dict[str, Any]]:
        """Return the unfinished multipart uploads; their parts cost money."""
        pages = self.client.get_paginator("list_multipart_uploads")
        try:
            uploads = [
                upload
                for page in pages.paginate(Bucket=self.name, Prefix=prefix)
                for upload in page.get("Uploads", [])
            ]
        except ClientError as error:
            if code_of(error) in _MISSING:
                return []
            raise
        return uploads

    def empty(self, keep: Collection[str] = ()) -> None:
        """Delete objects, versions and unfinished uploads, if the bucket exists.

        Args:
            keep: the keys of objects to leave.
        """
        # Their parts are not objects, but cost money in the same way.
        for upload in self.uploads():
            self._abort(upload)
        try:
            self._delete_versions(
                {"Key": item["Key"], "VersionId": item["VersionId"]}
                for item in self._versions()
                if item["Key"] not in keep
            )
        except ClientError as error:
            if code_of(error) not in _MISSING:
                raise

    def _abort(self, upload: dict[str, Any]) -> None:
        try:
            self.client.abort_multipart_upload(
                Bucket=self.name, Key=upload["Key"], UploadId=upload["UploadId"]
            )
        except ClientError as error:
            # The lifecycle rule can remove it first.
            if code_of(error) != "NoSuchUpload":
                raise

    def _versions(self) -> Iterator[dict[str, Any]]:
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.name)
        for page in pages:
            # S3 also refuses to delete a bucket that contains old versions or delete markers.
            yield from page.get("Versions", [])
            yield from page.get("DeleteMarkers", [])

    def _delete_versions(self, versions: Iterable[dict[str, str]]) -> None:
        pending = list(versions)
        for start in range(0, len(pending), _LARGEST_BATCH):
            self.client.delete_objects(
                Bucket=self.name,
                Delete={"Objects": pending[start : start + _LARGEST_BATCH], "Quiet": True},
            )
