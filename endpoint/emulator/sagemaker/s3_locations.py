"""Addresses of S3 objects as SageMaker writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LOCATION = re.compile(r"s3://([^/]+)/(.+)")


@dataclass(frozen=True)
class Location:
    """A bucket and a key."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> Location:
        """Return the location that `s3://bucket/key` names; raises ValueError otherwise."""
        match = _LOCATION.fullmatch(text)
        if match is None:
            raise ValueError(f"not an S3 object's address: {text}")
        return cls(*match.groups())

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"
