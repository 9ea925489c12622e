from __future__ import annotations

import gc
import time

from moto import backends
from moto.core import errors
from moto.s3.models import FakeKey

from tests.endpoint.emulator.doubles import BUCKET


def test_moto_lists_its_modules_and_errors_once(s3):
    assert "sagemaker" in backends.list_of_moto_modules()
    assert backends.list_of_moto_modules() is backends.list_of_moto_modules()
    assert errors.ErrorLookupFactory() is errors.ErrorLookupFactory()


def test_replaced_and_deleted_objects_use_no_memory(s3):
    def put(number):
        s3.put_object(Bucket=BUCKET, Key="replaced", Body=str(number).encode())
        s3.put_object(Bucket=BUCKET, Key="deleted", Body=b"x")
        s3.delete_object(Bucket=BUCKET, Key="deleted")

    for number in range(20):
        put(number)

    # The thread that served the last request may still hold its response.
    until = time.monotonic() + 60
    while objects_in_memory() > 1:
        assert time.monotonic() < until, "older objects are still in memory"
        time.sleep(0.05)
    assert s3.get_object(Bucket=BUCKET, Key="replaced")["Body"].read() == b"19"


def objects_in_memory():
    gc.collect()
    objects = [item for item in gc.get_objects() if type(item) is FakeKey]
    return sum(item.name in {"replaced", "deleted"} for item in objects)
