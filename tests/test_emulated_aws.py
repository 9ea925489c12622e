from endpoint.emulator.process.clients import Clients
from tests.emulated_aws import empty_aws

REGION = "eu-west-1"


def test_an_account_has_no_resources_of_the_one_before():
    for _ in range(2):
        with empty_aws() as server:
            s3 = Clients(lambda url=server.url: url).get("s3", REGION)
            assert s3.list_buckets()["Buckets"] == []
            place = {"LocationConstraint": REGION}
            s3.create_bucket(Bucket="easel-once", CreateBucketConfiguration=place)
