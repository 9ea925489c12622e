"""Service Quotas: how many instances of a type an account may have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

_SERVICE = "sagemaker"
_NAME = "{} for endpoint usage"


class Quotas:
    """SageMaker's quotas."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, types: Iterable[str]) -> dict[str, tuple[float, str]] | None:
        """Return quota and quota code of each instance type, looked up by the quota's name.

        A type without a quota of its own is left out. None if they may not be read, which must
        not keep anyone from deploying.

        What is read is a hint: the table has been seen to say 1 where 0 was enforced.
        """
        wanted = {_NAME.format(name): name for name in types}
        found: dict[str, tuple[float, str]] = {}
        try:
            # 100 to a page, of well over a thousand.
            pages = self._client.get_paginator("list_service_quotas").paginate(
                ServiceCode=_SERVICE, PaginationConfig={"PageSize": 100}
            )
            for page in pages:
                for quota in page["Quotas"]:
                    if quota["QuotaName"] in wanted:
                        name = wanted[quota["QuotaName"]]
                        found[name] = (float(quota["Value"]), str(quota["QuotaCode"]))
                if len(found) == len(wanted):
                    break
        except (ClientError, BotoCoreError):
            return None
        return found


def raise_call(code: str, region: str) -> str:
    """Return the command that asks for a quota of 1."""
    return (
        "aws service-quotas request-service-quota-increase --service-code sagemaker"
        f" --quota-code {code} --desired-value 1 --region {region}"
    )
