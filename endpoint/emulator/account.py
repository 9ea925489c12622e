"""The one account and the default region of the emulated AWS, and who its roles trust."""

from __future__ import annotations

# moto has the same account for every fake credential.
ACCOUNT = "123456789012"
# For requests without a signature, and functions without AWS_REGION.
DEFAULT_REGION = "us-east-1"
# The trust policy of a role that SageMaker assumes.
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
