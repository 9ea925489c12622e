"""Service Quotas, of which moto 5.2.5 has VPC's alone."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from moto.sagemaker.exceptions import SagemakerClientError
from moto.servicequotas.responses import ServiceQuotasResponse

# The types that the emulated regions offer, beside those of `QUOTAS`.
LISTED = frozenset({"ml.g4dn.xlarge", "ml.g5.xlarge", "ml.g6.xlarge", "ml.g6e.xlarge"})
# SageMaker's quotas that a test sets, by instance type. Only these limit the emulated account:
# other types show the default and have no limit, so that many tests can share one account.
QUOTAS: dict[str, float] = {}
# What instances are counted for; the quotas of training jobs are separate from those of endpoints.
ENDPOINT = "for endpoint usage"
TRAINING, SPOT_TRAINING = "for training job usage", "for spot training job usage"
# The quotas of training jobs that a test sets, by their whole name.
TRAINING_QUOTAS: dict[str, float] = {}
_DEFAULT_QUOTA = 2.0


def install() -> None:
    """Add ListServiceQuotas."""

    def list_service_quotas(self: ServiceQuotasResponse) -> str:
        asked = json.loads(self.body)
        if asked.get("ServiceCode") != "sagemaker":
            return json.dumps({"Quotas": []})
        types = sorted({*LISTED, *QUOTAS})
        quotas = [_quota(f"{name} {ENDPOINT}", QUOTAS.get(name)) for name in types]
        names = {f"{kind} {usage}" for kind in LISTED for usage in (TRAINING, SPOT_TRAINING)}
        names |= set(TRAINING_QUOTAS)
        quotas += [_quota(name, TRAINING_QUOTAS.get(name)) for name in sorted(names)]
        return json.dumps({"Quotas": quotas})

    # Added, not replaced: moto has no such method.
    ServiceQuotasResponse.list_service_quotas = list_service_quotas  # type: ignore[attr-defined]


def limit_all() -> None:
    """Let the quotas that are shown limit the account, which then belongs to one user."""
    QUOTAS.update(dict.fromkeys(LISTED, _DEFAULT_QUOTA))
    for usage in (TRAINING, SPOT_TRAINING):
        TRAINING_QUOTAS.update({f"{kind} {usage}": _DEFAULT_QUOTA for kind in LISTED})


def require(instance_type: str, usage: str, used: int, count: int = 1) -> None:
    """Refuse `count` more instances of a type where the quota has no room for them.

    Raises:
        ResourceLimitExceeded: as AWS words it.
    """
    name = f"{instance_type} {usage}"
    quota = (QUOTAS if usage == ENDPOINT else TRAINING_QUOTAS).get(
        instance_type if usage == ENDPOINT else name, math.inf
    )
    if used + count > quota:
        raise ResourceLimitExceeded(
            f"The account-level service limit '{name}' is {quota:g} Instances, with current "
            f"utilization of {used} Instances and a request delta of {count} Instances. "
            "Please use AWS Service Quotas to request an increase for this quota."
        )


class ResourceLimitExceeded(SagemakerClientError):
    """A quota has no room."""

    code = "ResourceLimitExceeded"


def _quota(name: str, value: float | None) -> dict[str, Any]:
    return {
        "ServiceCode": "sagemaker",
        "ServiceName": "Amazon SageMaker",
        "QuotaName": name,
        # Invented, in the form of AWS's codes.
        "QuotaCode": "L-" + hashlib.sha256(name.encode()).hexdigest()[:8].upper(),
        "Value": _DEFAULT_QUOTA if value is None else value,
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }
