"""Service Quotas, of which moto 5.2.5 has VPC's alone."""

from __future__ import annotations

import json
from typing import Any

from moto.servicequotas.responses import ServiceQuotasResponse

# The types that the emulated regions offer, beside those of `QUOTAS`.
LISTED = frozenset({"ml.g4dn.xlarge", "ml.g5.xlarge", "ml.g6.xlarge", "ml.g6e.xlarge"})
# SageMaker's quotas that a test sets, by instance type. Only these limit the emulated account:
# other types show the default and have no limit, so that many tests can share one account.
QUOTAS: dict[str, float] = {}
_DEFAULT_QUOTA = 2.0


def install() -> None:
    """Add ListServiceQuotas."""

    def list_service_quotas(self: ServiceQuotasResponse) -> str:
        asked = json.loads(self.body)
        if asked.get("ServiceCode") != "sagemaker":
            return json.dumps({"Quotas": []})
        types = sorted({*LISTED, *QUOTAS})
        return json.dumps({"Quotas": [_quota(name) for name in types]})

    # Added, not replaced: moto has no such method.
    ServiceQuotasResponse.list_service_quotas = list_service_quotas  # type: ignore[attr-defined]


def limit_all() -> None:
    """Let the quotas that are shown limit the account, which then belongs to one user."""
    QUOTAS.update(dict.fromkeys(LISTED, _DEFAULT_QUOTA))


def _quota(instance_type: str) -> dict[str, Any]:
    return {
        "ServiceCode": "sagemaker",
        "ServiceName": "Amazon SageMaker",
        "QuotaName": f"{instance_type} for endpoint usage",
        # Invented, in the form of AWS's codes.
        "QuotaCode": "L-" + instance_type.encode().hex().upper()[-8:],
        "Value": QUOTAS.get(instance_type, _DEFAULT_QUOTA),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }
