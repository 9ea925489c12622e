"""Objects in S3."""

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from chalicelib.aws.s3 import Store
from chalicelib.errors import StoreUnavailable
from tests.gateway.doubles import Breaks, Bucket, Provided


class Refusing:
    """An S3 client that answers every call with the same error."""

    def __init__(self, error):
        self._error = error

    def __getattr__(self, name):
        def call(**arguments):
            raise self._error

        return call


CALLS = {
    "read": lambda store: store.read("key"),
    "size": lambda store: store.size("key"),
    "create": lambda store: store.create("key", b"1"),
    "replace": lambda store: store.replace("key", b"1", "tag"),
    "delete": lambda store: store.delete("key"),
}


@pytest.fixture
def bucket():
    return Bucket(Breaks())


@pytest.fixture
def store(bucket):
    return Store(Provided(bucket), "bucket", "jobs/")


def test_an_object_is_read_as_it_was_written_below_the_prefix(store, bucket):
    tag = store.create("key", b"content")
    stored = store.read("key")

    assert bucket.objects == {"jobs/key": b"content"}
    assert (stored.body, stored.size, stored.tag) == (b"content", 7, tag)
    assert store.size("key") == 7


def test_a_missing_object_is_none(store):
    assert store.read("key") is None
    assert store.size("key") is None


def test_the_content_of_a_large_object_stays_where_it_is(store):
    store.create("key", b"content")
    stored = store.read("key", longest=6)

    assert (stored.body, stored.size) == (b"", 7)


def test_only_the_first_creates(store):
    assert store.create("key", b"first")
    assert store.create("key", b"second") is None
    assert store.read("key").body == b"first"


def test_only_a_writer_with_the_current_version_replaces_it(store):
    first = store.create("key", b"first")
    second = store.replace("key", b"second", first)

    assert store.replace("key", b"third", first) is None
    assert store.replace("key", b"third", second)
    assert store.replace("other", b"x", first) is None


def test_deleting_a_missing_object_succeeds(store):
    store.create("key", b"1")
    store.delete("key")
    store.delete("key")

    assert store.read("key") is None


def test_a_location_below_the_prefix_is_distinguished_from_others(store):
    assert store.key_of("s3://bucket/jobs/failures/x") == "failures/x"
    assert store.key_of("s3://other/jobs/failures/x") is None
    assert store.key_of("s3://bucket/else/x") is None


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "code", ["AccessDenied", "403", "SlowDown", "503", "InternalError", "NoSuchBucket"]
)
def test_whatever_else_s3_says_is_one_error_that_hides_it(call, code):
    error = ClientError({"Error": {"Code": code, "Message": "arn:aws:s3:::secret"}}, "Operation")
    with pytest.raises(StoreUnavailable) as raised:
        CALLS[call](Store(Provided(Refusing(error)), "bucket", ""))

    assert "secret" not in raised.value.message


@pytest.mark.parametrize("call", CALLS)
def test_an_s3_that_does_not_respond_is_an_error(call):
    with pytest.raises(StoreUnavailable):
        CALLS[call](Store(Provided(Refusing(ReadTimeoutError(endpoint_url="u"))), "bucket", ""))


def test_two_writes_that_meet_leave_one_winner():
    error = ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "PutObject")

    assert Store(Provided(Refusing(error)), "bucket", "").create("key", b"1") is None
