"""The AWS clients."""

import threading
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from urllib3 import HTTPResponse

from chalicelib.aws.clients import LazyClient
from chalicelib.aws.s3 import Store

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
}
REGIONS = [
    (region, partition)
    for partition in ("aws", "aws-cn", "aws-us-gov")
    for region in boto3.Session().get_available_regions("s3", partition)
]


@pytest.fixture
def link(monkeypatch):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)

    def made(region, bucket="easel-main-123456789012-x"):
        monkeypatch.setenv("AWS_DEFAULT_REGION", region)
        store = Store(LazyClient("s3", 5), bucket, "jobs/")
        return urlsplit(store.link("a//b.png", 3_600, ResponseContentType="image/png"))

    return made


@pytest.mark.parametrize(("region", "partition"), REGIONS)
def test_a_link_is_signed_for_the_host_of_the_buckets_region(link, region, partition):
    url = link(region)
    query = parse_qs(url.query)

    suffix = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
    assert url.netloc == f"easel-main-123456789012-x.s3.{region}.{suffix}"
    assert url.path == "/jobs/a//b.png"
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert f"/{region}/s3/" in query["X-Amz-Credential"][0]
    assert (query["X-Amz-Expires"], query["X-Amz-Security-Token"]) == (["3600"], ["token"])


def test_a_link_to_the_emulator_has_the_bucket_in_its_path(link, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:5000")
    url = link("us-east-1")

    assert (url.netloc, url.path) == ("127.0.0.1:5000", "/easel-main-123456789012-x/jobs/a//b.png")


def test_a_client_is_made_once_however_many_ask(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    lazy, clients = LazyClient("sagemaker-runtime", 24), []
    threads = [threading.Thread(target=lambda: clients.append(lazy.client())) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(clients) == 10
    assert len({id(client) for client in clients}) == 1


def test_the_runtime_client_never_retries(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    config = LazyClient("sagemaker-runtime", 24).client().meta.config

    assert config.retries["total_max_attempts"] == 1
    assert config.connect_timeout + config.read_timeout < 29


@pytest.mark.parametrize(
    ("size", "waits"), [(0, False), (1, False), (65_536, False), (65_537, True), (2_000_000, True)]
)
def test_only_a_large_object_waits_until_s3_asks_for_its_body(monkeypatch, size, waits):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    lazy, sent = LazyClient("s3", 5), []

    def answer(request, **_):
        sent.append(request.headers)
        return AWSResponse(
            request.url, 200, {"ETag": '"1"'}, HTTPResponse(BytesIO(), preload_content=False)
        )

    lazy.client().meta.events.register("before-send", answer)
    Store(lazy, "bucket", "").write("key", bytes(size))

    assert ["Expect" in headers for headers in sent] == [waits]
