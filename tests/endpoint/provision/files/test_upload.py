from __future__ import annotations

import os

import pytest
from moto.s3 import models as moto_s3

from endpoint.aws.bucket import Bucket
from endpoint.core.console import Console
from endpoint.core.problems import UploadFailed
from endpoint.provision.files.payload import File, manifest_key
from endpoint.provision.files.upload import Upload
from tests.endpoint.doubles import BUCKET
from tests.endpoint.world import Crash, empty_account

PREFIX = "models/sd/00000001/"
PART = 1000


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    """moto enforces S3's minimum size of a part, 5 MiB; these tests use smaller ones."""
    monkeypatch.setattr(moto_s3, "S3_UPLOAD_PART_MIN_SIZE", 1)


@pytest.fixture
def files(tmp_path):
    """Files of no part, one part, barely two parts and many."""
    sizes = {"model_index.json": 20, "vae/a.safetensors": PART, "unet/b.safetensors": PART + 1,
             "unet/c.safetensors": 7 * PART + 13, "empty.txt": 0}  # fmt: skip
    created = []
    for place, size in sizes.items():
        path = tmp_path / "weights" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
        created.append(File.read(path, place))
    return created


def upload(world, files, prefix=PREFIX):
    bucket = Bucket(world.session.client("s3"), BUCKET)
    Upload(bucket, Console(world), world, part=PART).ensure(prefix, files)


def stored(world, prefix=PREFIX):
    s3 = world.client("s3")
    keys = [item["Key"] for item in
            s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]  # fmt: skip
    return {
        key.removeprefix(prefix): s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        for key in keys
    }


def unfinished(world):
    response = world.client("s3").list_multipart_uploads(Bucket=BUCKET)
    uploads: list[dict] = response.get("Uploads", [])
    return uploads


def contents_of(files):
    return {file.place: file.path.read_bytes() for file in files}


@pytest.fixture
def bucket(world):
    world.client("s3").create_bucket(Bucket=BUCKET)
    return world


def test_every_byte_arrives(bucket, files):
    upload(bucket, files)
    assert stored(bucket) == contents_of(files)
    assert unfinished(bucket) == []


def test_uploading_again_sends_nothing(bucket, files):
    upload(bucket, files)
    first = len(bucket.calls)
    upload(bucket, files)
    sent = bucket.calls[first:]
    assert not {"s3.UploadPart", "s3.CreateMultipartUpload"} & set(sent)
    assert sent.count("s3.PutObject") == 1  # the manifest


def test_wherever_an_upload_dies_the_next_one_completes_it(files):
    for when in ("before", "after"):
        call, died = 0, True
        while died:
            with empty_account() as world:
                world.client("s3").create_bucket(Bucket=BUCKET)
                world.crash_at(call, when)
                try:
                    upload(world, files)
                    died = False
                except Crash:
                    world.revive()
                    upload(world, files)
                assert stored(world) == contents_of(files), f"{when} call {call}"
                assert unfinished(world) == [], f"{when} call {call}"
            call += 1
        assert call > 15


def test_finished_parts_are_not_sent_again(bucket, files):
    big = [file for file in files if file.place == "unet/c.safetensors"]
    bucket.fail("CompleteMultipartUpload", "ExpiredToken", times=1)
    with pytest.raises(Exception, match="ExpiredToken"):
        upload(bucket, big)
    first = len(bucket.calls)
    upload(bucket, big)
    assert "s3.UploadPart" not in bucket.calls[first:]
    assert stored(bucket) == contents_of(big)


def test_parts_with_other_content_are_sent_again(bucket, files):
    big = [file for file in files if file.place == "unet/c.safetensors"]
    bucket.fail("CompleteMultipartUpload", "ExpiredToken", times=1)
    with pytest.raises(Exception, match="ExpiredToken"):
        upload(bucket, big)
    path = big[0].path
    path.write_bytes(os.urandom(PART) + path.read_bytes()[PART:])
    changed = [File.read(path, big[0].place)]
    first = len(bucket.calls)
    upload(bucket, changed)
    assert bucket.calls[first:].count("s3.UploadPart") == 1
    assert stored(bucket) == contents_of(changed)


def test_files_of_an_earlier_version_are_copied_inside_s3(bucket, files):
    upload(bucket, files)
    first = len(bucket.calls)
    upload(bucket, files, "models/sd/00000002/")
    sent = bucket.calls[first:]
    assert "s3.UploadPart" not in sent
    assert sent.count("s3.CopyObject") == len(files)
    assert stored(bucket, "models/sd/00000002/") == contents_of(files)


def test_the_manifest_is_written_last(bucket, files):
    bucket.fail("UploadPart", "AccessDenied")
    with pytest.raises(Exception, match="AccessDenied"):
        upload(bucket, files)
    assert stored(bucket, manifest_key(PREFIX)) == {}


def test_a_file_that_shrinks_during_the_upload_is_an_error(bucket, files):
    big = [file for file in files if file.place == "unet/c.safetensors"]
    big[0].path.write_bytes(b"short")
    with pytest.raises(UploadFailed, match="became shorter"):
        upload(bucket, big)


def test_a_file_that_vanishes_during_the_upload_is_an_error(bucket, files):
    files[1].path.unlink()
    with pytest.raises(UploadFailed, match="cannot be read"):
        upload(bucket, files)


@pytest.mark.parametrize("manifest", [b"{", b"[1]", b'{"a": 5}', b"\xff"])
def test_a_manifest_that_cannot_be_read_prevents_nothing(bucket, files, manifest):
    bucket.client("s3").put_object(Bucket=BUCKET, Key="manifests/sd/0.json", Body=manifest)
    upload(bucket, files)
    assert stored(bucket) == contents_of(files)


def test_every_object_has_the_mark_by_which_the_clean_up_knows_it(bucket, files):
    upload(bucket, files)
    upload(bucket, files, "models/sd/00000002/")
    s3 = Bucket(bucket.client("s3"), BUCKET)
    assert [key for key in s3.sizes() if not s3.has_mark(key)] == []
