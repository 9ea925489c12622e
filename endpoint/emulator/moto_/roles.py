"""Whether a service can assume a role, which AWS checks and moto does not."""

from __future__ import annotations

import json

from moto.iam.models import iam_backends
from moto.sagemaker.exceptions import ValidationError


def trusts(account: str, arn: str, service: str) -> bool:
    """Whether a role exists that a service may assume, such as `sagemaker.amazonaws.com`."""
    roles = iam_backends[account]["aws"].roles.values()
    role = next((role for role in roles if role.arn == arn), None)
    return role is not None and service in json.dumps(role.assume_role_policy_document)


def require_role(account: str, arn: str) -> None:
    """Refuse a role that SageMaker cannot assume.

    Raises:
        ValidationError: as SageMaker words it.
    """
    if not trusts(account, arn, "sagemaker.amazonaws.com"):
        raise ValidationError(
            message=f"Could not assume role {arn}. Please ensure that the role exists and allows"
            " principal 'sagemaker.amazonaws.com' to assume the role."
        )
