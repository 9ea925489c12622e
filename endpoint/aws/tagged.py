"""The tagging API: every resource with Easel's tag, of whatever service.

Its index is seconds to minutes behind and does not cover every service, so the scripts also search
by name; this finds the resources whose names do not reveal them.
"""

from __future__ import annotations

from typing import Any

from endpoint.core.naming import TAG
from endpoint.core.problems import AccessDenied, translated


class Tagged:
    """Resources by tag."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def arns(self, deployment: str | None) -> list[str] | None:
        """Return the ARNs of one deployment's resources, or of all; None if access is denied."""
        # Without values the filter matches every value of the tag.
        tag_filter: dict[str, Any] = {"Key": TAG, "Values": [deployment] if deployment else []}
        pages = self._client.get_paginator("get_resources").paginate(TagFilters=[tag_filter])
        try:
            with translated():
                return sorted(
                    item["ResourceARN"] for page in pages for item in page["ResourceTagMappingList"]
                )
        except AccessDenied:
            return None
