"""The tagging API: everything that carries Easel's tag, whatever service it is of.

It lags behind by seconds to minutes and does not know every service, so the scripts look by name
as well; this finds what no name leads to.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.naming import TAG
from endpoint.core.problems import code_of


class Tagged:
    """Resources by tag."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def arns(self, deployment: str | None) -> list[str] | None:
        """Return the ARNs of one deployment's resources, or of all; None if that is not allowed."""
        wanted: dict[str, Any] = {"Key": TAG, "Values": [deployment] if deployment else []}
        pages = self._client.get_paginator("get_resources").paginate(TagFilters=[wanted])
        try:
            found = [
                item["ResourceARN"] for page in pages for item in page["ResourceTagMappingList"]
            ]
        except ClientError as error:
            if code_of(error) in {"AccessDenied", "AccessDeniedException"}:
                return None
            raise
        return sorted(found)
