"""What a gateway on this machine stores, in moto's bucket."""

from datetime import timedelta

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from endpoint.emulator.local_pictures import place, trim
from tests.endpoint.emulator.doubles import REGION

BUCKET = "easel-local-pictures"


def test_the_oldest_pictures_are_deleted_and_nothing_else(clients):
    assert place(BUCKET, "sd") == f"s3://{BUCKET}/pictures/sd/"
    s3 = clients.get("s3", REGION)
    s3.create_bucket(Bucket=BUCKET)
    for key in ("usage/1", "pictures/sd/b", "pictures/sd/a", "pictures/other/c"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=bytes(10))
    bucket = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[BUCKET]
    bucket.keys["pictures/sd/b"].last_modified -= timedelta(minutes=1)
    trim(s3, BUCKET, most=25)
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert keys == ["pictures/other/c", "pictures/sd/a", "usage/1"]
    trim(s3, BUCKET, most=25)
    assert len(s3.list_objects_v2(Bucket=BUCKET)["Contents"]) == 3
