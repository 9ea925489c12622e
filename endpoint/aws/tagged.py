"""The tagging API: every resource with Easel's tag, of whatever service.

Its index is seconds to minutes behind and does not cover every service, so the scripts also search
by name; this finds the resources whose names do not reveal them.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.naming import TAG
from endpoint.core.problems import AccessDenied, code_of, translated


class Tagged:
    """Resources by tag.

    Args:
        client: the client of resourcegroupstaggingapi.
        budgets: the client of budgets.
    """

    def __init__(self, client: Any, budgets: Any) -> None:
        self._client = client
        self._budgets = budgets

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

    def has_budget(self, account: str, name: str) -> bool:
        """Whether a budget exists: the index lists a deleted one for some minutes."""
        try:
            self._budgets.describe_budget(AccountId=account, BudgetName=name)
        except ClientError as error:
            if code_of(error) == "NotFoundException":
                return False
            raise
        return True
