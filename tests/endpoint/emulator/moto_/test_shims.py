from __future__ import annotations

import gc
from typing import Any

from moto import backends
from moto.core import errors
from moto.s3.models import FakeKey

from tests.endpoint.emulator.doubles import BUCKET


def test_moto_lists_its_modules_and_errors_once(s3: Any) -> None:
    assert "sagemaker" in backends.list_of_moto_modules()
    assert backends.list_of_moto_modules() is backends.list_of_moto_modules()
    assert errors.ErrorLookupFactory() is errors.ErrorLookupFactory()


def test_replaced_and_deleted_objects_use_no_memory(s3: Any) -> None:
    def put(number: int) -> None:
        s3.put_object(Bucket=BUCKET, Key="replaced", Body=str(number).encode())
        s3.put_object(Bucket=BUCKET, Key="deleted", Body=b"x")
        s3.delete_object(Bucket=BUCKET, Key="deleted")

    put(0)
    before = objects_in_memory()
    for number in range(1, 20):
        put(number)

    assert objects_in_memory() <= before + 1
    assert s3.get_object(Bucket=BUCKET, Key="replaced")["Body"].read() == b"19"


def objects_in_memory() -> int:
    gc.collect()
    return sum(type(each) is FakeKey for each in gc.get_objects())
