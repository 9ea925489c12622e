"""A gateway with a key, and a real S3 for what must hold however many requests arrive at once."""

import boto3
import pytest
from botocore.config import Config

from endpoint.emulator.aws_server import AwsServer
from endpoint.emulator.process.clients import environment


@pytest.fixture
def client(guarded_client):
    """A client of a gateway with one key, in the place of that of an open gateway."""
    return guarded_client


@pytest.fixture(scope="package")
def s3():
    """A real client of a real server, as many Lambdas would have each."""
    with AwsServer().serve() as server:
        fields = environment(server.url, "us-east-1")
        client = boto3.client(
            "s3",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id=fields["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=fields["AWS_SECRET_ACCESS_KEY"],
            config=Config(max_pool_connections=50, retries={"total_max_attempts": 2}),
        )
        client.create_bucket(Bucket="easel-links")
        yield client
