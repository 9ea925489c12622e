"""The one account and the default region of the emulated AWS."""

from __future__ import annotations

# moto has the same account for every fake credential.
ACCOUNT = "123456789012"
# For requests without a signature, and functions without AWS_REGION.
DEFAULT_REGION = "us-east-1"
