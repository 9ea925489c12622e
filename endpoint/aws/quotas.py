"""Service Quotas: how many instances of a type the account can run."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from endpoint.core.problems import AwsError, translated

_SERVICE = "sagemaker"
_NAME = "{} for {}"
ENDPOINTS, TRAINING, SPOT = (
    "endpoint usage", "training job usage", "spot training job usage",
)  # fmt: skip


class Quotas:
    """SageMaker's quotas."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(
        self, types: Iterable[str], usage: str = ENDPOINTS
    ) -> dict[str, tuple[float, str]] | None:
        """Return quota and quota code of each instance type; the quota is found by its name.

        Args:
            types: the instance types.
            usage: ENDPOINTS, TRAINING or SPOT, which are counted separately.

        Types that the region does not list are left out. Returns None if the quotas cannot be read:
        that must not prevent a deployment. The values are a hint: the service has been seen to
        return 1 where 0 was enforced.
        """
        try:
            with translated():
                return {
                    name: self._listed[_NAME.format(name, usage)]
                    for name in types
                    if _NAME.format(name, usage) in self._listed
                }
        except AwsError:
            return None

    @cached_property
    def _listed(self) -> dict[str, tuple[float, str]]:
        # SageMaker has well over a thousand quotas, and a page has at most 100: read once.
        pages = self._client.get_paginator("list_service_quotas").paginate(
            ServiceCode=_SERVICE, PaginationConfig={"PageSize": 100}
        )
        return {
            quota["QuotaName"]: (float(quota["Value"]), str(quota["QuotaCode"]))
            for page in pages
            for quota in page["Quotas"]
        }


def increase_command(code: str, value: int, region: str) -> str:
    """Return the AWS CLI command that requests a quota of `value`."""
    return (
        "aws service-quotas request-service-quota-increase --service-code sagemaker"
        f" --quota-code {code} --desired-value {value} --region {region}"
    )
