from __future__ import annotations

import pytest

from chalicelib.aws import clients as aws_clients
from endpoint.emulator.process.clients import Clients, environment
from tests.end_to_end.account import REGION
from tests.end_to_end.guarded_aws import TRAINING_GATEWAY_KEY


@pytest.fixture(scope="package")
def account(aws, training_stack):
    """S3 of the emulated account, in which this process calls with the gateway's own rights."""
    variables = environment(aws.url, REGION) | {"AWS_ACCESS_KEY_ID": TRAINING_GATEWAY_KEY}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        aws_clients._session.cache_clear()
        yield Clients(lambda: aws.url).get("s3", REGION)
        aws_clients._session.cache_clear()
