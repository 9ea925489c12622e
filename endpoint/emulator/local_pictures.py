"""Where a gateway on this machine stores pictures whose requests name the seed, as on AWS.

The emulated bucket is in the memory of its process, and knows no days after which it deletes.
"""

from __future__ import annotations

from typing import Any

_PREFIX = "pictures/"
# Some hundred pictures of Stable Diffusion.
MOST_BYTES = 512 * 2**20


def place(bucket: str, model: str) -> str:
    """Return the address below which a model's pictures are stored."""
    return f"s3://{bucket}/{_PREFIX}{model}/"


def trim(s3: Any, bucket: str, most: int = MOST_BYTES) -> None:
    """Delete the oldest stored pictures until the others have at most `most` bytes.

    Args:
        s3: the client.
        bucket: its name.
        most: for all models.
    """
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=_PREFIX)
    stored = [item for page in pages for item in page.get("Contents", [])]
    left = sum(item["Size"] for item in stored)
    for item in sorted(stored, key=lambda item: item["LastModified"]):
        if left <= most:
            return
        s3.delete_object(Bucket=bucket, Key=item["Key"])
        left -= item["Size"]
