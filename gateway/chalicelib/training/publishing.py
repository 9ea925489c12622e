"""Publishing: the file of a completed job is checked, and becomes an adapter of its model."""

from __future__ import annotations

import io

from chalicelib.aws.s3 import Listed, Store
from chalicelib.training.claims import Claims
from chalicelib.training_jobs import adapter_file, places
from chalicelib.training_jobs.state import Record

# A job leaves one file, and each attempt may leave its own.
_MOST_FILES = 200


class Unpublishable(Exception):
    """The job's file cannot be published, now or later; the text is a sentence."""


def publish(store: Store, claims: Claims, record: Record) -> None:
    """Copy a completed job's file to the model's adapters, unless it is there already.

    Args:
        store: the whole bucket.
        claims: say whose the name is.
        record: of the completed job.

    Raises:
        Unpublishable: if the file is not a usable adapter, or its name is another's.
        StoreUnavailable: if S3 does not respond; publishing can be tried again.
    """
    found = _result(store, record)
    if found is None:
        raise Unpublishable("The job left no adapter.")
    if found.size > adapter_file.LARGEST:
        raise Unpublishable(
            f"The adapter has {found.size:,} bytes; at most {adapter_file.LARGEST:,} are allowed."
        )
    stored = store.read(found.key, longest=adapter_file.LARGEST)
    body = stored.body if stored else b""
    try:
        adapter_file.check(io.BytesIO(body), len(body))
    except adapter_file.AdapterUnusable as error:
        raise Unpublishable(str(error)) from error
    claim = claims.read(places.name_claim(record.model, record.name))
    if claim is None or claim.id != record.id:
        raise Unpublishable(f"The name {record.name} is in use; train it under another one.")
    key = places.adapter(record.model, record.name)
    if store.create(key, body) is None and not _is_same(store, key, body):
        raise Unpublishable(f"The name {record.name} is in use; train it under another one.")


def _result(store: Store, record: Record) -> Listed | None:
    """Return the file of the latest attempt."""
    files = {
        one.key: one
        for one in store.listed(places.output(record.id), _MOST_FILES)
        if places.is_result(one.key, record.name)
    }
    own = [key for key in files if f"/{record.sagemaker_job}/" in key]
    return files[sorted(own or files)[-1]] if files else None


def _is_same(store: Store, key: str, body: bytes) -> bool:
    """Whether an earlier try, which was cut short, has published the same file."""
    published = store.read(key, longest=len(body))
    return published is not None and published.body == body
