"""Uploads by forms, which S3 accepts as far as their policy allows them."""

from __future__ import annotations

import re
import uuid

import boto3
import pytest
import urllib3
from botocore.config import Config

from tests.endpoint.emulator.doubles import BUCKET, REGION

TYPE = {"Content-Type": "image/png"}


@pytest.fixture
def signer(aws):
    """A client that signs as a gateway does."""
    return boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=aws.url,
        aws_access_key_id="easel-gateway",
        aws_secret_access_key="easel-emulator",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


@pytest.fixture
def presign(signer):
    def presign(*conditions, key=None, fields=TYPE, seconds=900):
        key = key or f"datasets/{uuid.uuid4().hex}/0001.png"
        listed = [*({name: value} for name, value in fields.items()), *conditions]
        return signer.generate_presigned_post(
            BUCKET, key, Fields=dict(fields), Conditions=listed, ExpiresIn=seconds
        )

    return presign


def post(form, content=b"picture", headers=None, **changes):
    fields = {**form["fields"], **changes}
    parts = {name: value for name, value in fields.items() if value is not None}
    parts["file"] = ("1.png", content, "image/png")
    answer = urllib3.request("POST", form["url"], fields=parts, headers=headers, retries=False)
    found = re.search(r"<Code>(.*)</Code><Message>(.*?)</Message>", answer.data.decode())
    return (answer.status, *(found.groups() if found else ()))


def test_what_the_policy_allows_is_stored(presign, s3):
    form = presign(["content-length-range", 1, 100], {"success_action_status": "201"})
    assert post(form, success_action_status="201") == (201,)
    stored = s3.get_object(Bucket=BUCKET, Key=form["fields"]["key"])
    assert stored["Body"].read() == b"picture"
    assert stored["ContentType"] == "image/png"


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"key": "datasets/other/0001.png"}, (403, "AccessDenied", "Policy Condition failed")),
        ({"Content-Type": "text/html"}, (403, "AccessDenied", "Policy Condition failed")),
        ({"Content-Type": None}, (403, "AccessDenied", "Policy Condition failed")),
        ({"acl": "public-read"}, (403, "AccessDenied", "Extra input fields: acl")),
        ({"policy": None}, (403, "AccessDenied", "Access Denied")),
        ({"policy": "e30="}, (403, "SignatureDoesNotMatch", "does not match")),
        ({"x-amz-signature": "0" * 64}, (403, "SignatureDoesNotMatch", "does not match")),
        ({"x-amz-algorithm": None}, (400, "InvalidRequest", "Please use AWS4-HMAC-SHA256")),
        ({"key": None}, (400, "InvalidArgument", "a field named &#x27;key&#x27;|named 'key'")),
        ({"content": b"x" * 101}, (400, "EntityTooLarge", "exceeds the maximum allowed size")),
        ({"content": b""}, (400, "EntityTooSmall", "smaller than the minimum allowed size")),
    ],
)
def test_what_it_does_not_allow_is_not(presign, s3, changes, answer):
    form = presign(["content-length-range", 1, 100])
    status, code, message = post(form, **changes)
    assert (status, code) == answer[:2]
    assert re.search(answer[2], message)
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=form["fields"]["key"])
    assert listed["KeyCount"] == 0


def test_a_policy_expires(presign):
    status, code, message = post(presign(seconds=-1))
    assert (status, code) == (403, "AccessDenied")
    assert message.endswith("Policy expired.")


def test_a_prefix_can_be_allowed(presign):
    form = presign(["starts-with", "$Content-Type", "image/"], fields={})
    assert post(form, **{"Content-Type": "image/webp"}) == (204,)
    assert post(form, **{"Content-Type": "text/plain"})[0] == 403
    folder = f"sets/{uuid.uuid4().hex}/"
    form = presign(key=folder + "${filename}")
    assert post(form) == (204,)


def test_a_page_can_read_the_answer_where_the_bucket_says_so(presign, s3):
    rules = {"AllowedOrigins": ["http://localhost:8000"], "AllowedMethods": ["POST"]}
    origin = {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "cross-site"}

    def allowed():
        form = presign()
        parts = {**form["fields"], "file": ("1.png", b"1", "image/png")}
        answer = urllib3.request("POST", form["url"], fields=parts, headers=origin, retries=False)
        assert answer.status == 204
        return answer.headers.get("Access-Control-Allow-Origin")

    assert allowed() is None
    s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": [rules]})
    assert allowed() == "http://localhost:8000"
    s3.delete_bucket_cors(Bucket=BUCKET)
