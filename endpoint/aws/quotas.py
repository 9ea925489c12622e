"""Service Quotas: how many instances of a type the account can run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from endpoint.core.problems import AwsError, translated

_SERVICE = "sagemaker"
_NAME = "{} for endpoint usage"


class Quotas:
    """SageMaker's quotas."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, types: Iterable[str]) -> dict[str, tuple[float, str]] | None:
        """Return quota and quota code of each instance type; the quota is found by its name.

        Types without a quota of their own are left out. Returns None if the quotas cannot be read:
        that must not prevent a deployment. The values are a hint: the service has been seen to
        return 1 where 0 was enforced.
        """
        try:
            with translated():
                return self._find({_NAME.format(name): name for name in types})
        except AwsError:
            return None

    def _find(self, names: dict[str, str]) -> dict[str, tuple[float, str]]:
        quotas: dict[str, tuple[float, str]] = {}
        # SageMaker has well over a thousand quotas, and a page has at most 100.
        pages = self._client.get_paginator("list_service_quotas").paginate(
            ServiceCode=_SERVICE, PaginationConfig={"PageSize": 100}
        )
        for page in pages:
            for quota in page["Quotas"]:
                if quota["QuotaName"] in names:
                    name = names[quota["QuotaName"]]
                    quotas[name] = (float(quota["Value"]), str(quota["QuotaCode"]))
            if len(quotas) == len(names):
                break
        return quotas


def increase_command(code: str, region: str) -> str:
    """Return the AWS CLI command that requests a quota of 1."""
    return (
        "aws service-quotas request-service-quota-increase --service-code sagemaker"
        f" --quota-code {code} --desired-value 1 --region {region}"
    )
