"""Objects in S3."""

import base64
import json
import time
from datetime import datetime

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from chalicelib.aws import clients, s3
from chalicelib.aws.clients import LazyClient
from chalicelib.aws.s3 import Store
from chalicelib.errors import StoreUnavailable
from tests.gateway.doubles import Breaks, Bucket, FailingClient, Provided

CALLS = {
    "read": lambda store: store.read("key"),
    "size": lambda store: store.size("key"),
    "create": lambda store: store.create("key", b"1"),
    "replace": lambda store: store.replace("key", b"1", "tag"),
    "delete": lambda store: store.delete("key"),
    "delete a version": lambda store: store.delete("key", "tag"),
    "write": lambda store: store.write("key", b"1"),
    "list": lambda store: store.listed("key", 5),
    "folders": lambda store: store.count_folders("key/", 5),
    "start": lambda store: store.read_start("key", 5),
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
        CALLS[call](Store(Provided(FailingClient(error)), "bucket", ""))

    assert "secret" not in raised.value.message


@pytest.mark.parametrize("call", CALLS)
def test_an_s3_that_does_not_respond_is_an_error(call):
    silent = FailingClient(ReadTimeoutError(endpoint_url="u"))
    with pytest.raises(StoreUnavailable):
        CALLS[call](Store(Provided(silent), "bucket", ""))


def test_two_writes_that_meet_leave_one_winner():
    error = ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "PutObject")

    assert Store(Provided(FailingClient(error)), "bucket", "").create("key", b"1") is None


# --- Lists, conditional deletions, parts and forms ------------------------------------------------


def test_a_list_has_the_objects_below_a_start_over_as_many_pages_as_it_takes(bucket, monkeypatch):
    monkeypatch.setattr(s3, "_LONGEST_PAGE", 2)
    store = Store(Provided(bucket), "bucket", "jobs/")
    for number in range(5):
        store.create(f"a/{number}", b"1" * number)
    store.create("b/0", b"")

    listed = [(one.key, one.size) for one in store.listed("a/", 100)]
    assert listed == [(f"a/{number}", number) for number in range(5)]
    assert [one.key for one in store.listed("a/", 3)] == ["a/0", "a/1", "a/2"]
    assert store.listed("c/", 3) == []


def test_folders_are_counted_to_a_limit(store):
    for number in range(5):
        store.create(f"a/{number}/x", b"")
        store.create(f"a/{number}/y", b"")
    store.create("a/z", b"")

    assert [store.count_folders(start, 4) for start in ("a/", "b/")] == [4, 0]
    assert store.count_folders("a/", 100) == 5


def test_only_the_version_that_was_read_is_deleted(store):
    first = store.create("key", b"first")
    store.replace("key", b"second", first)
    store.delete("key", first)
    assert store.read("key").body == b"second"

    store.delete("key", store.read("key").tag)
    assert store.read("key") is None
    store.delete("key", first)


def test_the_start_of_an_object_is_read_alone(store):
    store.write("key", b"0123456789")

    assert store.read_start("key", 4) == b"0123"
    assert store.read_start("other", 4) is None


def test_a_form_is_for_one_object_of_one_type_and_size_at_the_regions_own_host(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    clients._session.cache_clear()
    try:
        store = Store(LazyClient("s3", 5), "easel-bucket", "datasets/")
        form = store.upload_form("a/0001.png", "image/png", 500, 900)
    finally:
        clients._session.cache_clear()
    policy = json.loads(base64.b64decode(form.fields["policy"]))

    assert form.url == "https://easel-bucket.s3.us-west-2.amazonaws.com/"
    # In this region botocore's own default is a version that new buckets refuse.
    assert form.fields["x-amz-algorithm"] == "AWS4-HMAC-SHA256"
    assert form.fields["key"] == "datasets/a/0001.png"
    for condition in (
        {"key": "datasets/a/0001.png"},
        {"bucket": "easel-bucket"},
        {"Content-Type": "image/png"},
        ["content-length-range", 1, 500],
    ):
        assert condition in policy["conditions"]
    expires = datetime.fromisoformat(policy["expiration"]).timestamp()
    assert abs(expires - time.time() - 900) < 60
