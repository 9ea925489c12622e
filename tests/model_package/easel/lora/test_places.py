"""Places with adapters: a folder, and S3 as the emulator has it."""

import os
import shutil

import pytest

from easel.lora.places import FileChanged, FolderPlace, Listed, PlaceUnavailable, S3Place, place_at
from endpoint.emulator.aws_server import AwsServer
from endpoint.emulator.process.clients import Clients, environment
from generation import Name

BUCKET, PREFIX, REGION = "easel-places", "loras/sd/", "us-east-1"
# Names that people give to files, and the adapters' names that these get.
FILES = ["b.safetensors", "styles/a.safetensors", "styles/b.SafeTensors", "My style.safetensors"]
NOT_ADAPTERS = ["README.txt", ".hidden.safetensors", ".trash/c.safetensors", "safetensors"]


@pytest.fixture(scope="module")
def s3():
    with AwsServer().serve() as server:
        client = Clients(lambda: server.url).get("s3", REGION)
        client.create_bucket(Bucket=BUCKET)
        client.url = server.url
        yield client


@pytest.fixture
def stored(s3, monkeypatch):
    """The bucket without objects, where the container's own client finds it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, text in environment(s3.url, REGION).items():
        monkeypatch.setenv(name, text)
    for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        s3.delete_object(Bucket=BUCKET, Key=item["Key"])
    return s3


class Folder:
    def __init__(self, path):
        self.path, self.place = path, FolderPlace(path)

    def put(self, name, content):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").replace(path)

    def delete(self, name):
        (self.path / name).unlink()


class Objects:
    def __init__(self, client):
        self.client, self.place = client, S3Place(BUCKET, PREFIX, REGION)

    def put(self, name, content):
        self.client.put_object(Bucket=BUCKET, Key=PREFIX + name, Body=content)

    def delete(self, name):
        self.client.delete_object(Bucket=BUCKET, Key=PREFIX + name)


@pytest.fixture(params=["folder", "s3"])
def shelf(request, tmp_path):
    if request.param == "folder":
        return Folder(tmp_path / "loras")
    return Objects(request.getfixturevalue("stored"))


def test_both_places_list_the_same_names(shelf):
    assert shelf.place.files() == {}
    for name in [*FILES, *NOT_ADAPTERS]:
        shelf.put(name, name.encode())
    files = shelf.place.files()

    assert {name: listed.path for name, listed in files.items()} == {
        "b": "b.safetensors",  # before the one in a subfolder
        "a": "styles/a.safetensors",
        Name.of("My style"): "My style.safetensors",
    }
    assert files["a"].size == len("styles/a.safetensors")


def test_a_file_is_fetched_as_it_was_listed(shelf, tmp_path):
    shelf.put("a.safetensors", b"x" * 3_000_000)
    listed = shelf.place.files()["a"]
    shelf.place.fetch(listed, tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == b"x" * 3_000_000


def test_another_content_has_another_tag_and_is_not_taken_for_the_listed_one(shelf, tmp_path):
    shelf.put("a.safetensors", b"one")
    listed = shelf.place.files()["a"]
    shelf.put("a.safetensors", b"two")

    assert shelf.place.files()["a"].tag != listed.tag
    with pytest.raises(FileChanged):
        shelf.place.fetch(listed, tmp_path / "copy")
    shelf.delete("a.safetensors")
    with pytest.raises(FileChanged):
        shelf.place.fetch(listed, tmp_path / "copy")
    assert shelf.place.files() == {}


def test_a_full_disk_makes_the_place_unavailable(shelf, tmp_path):
    shelf.put("a.safetensors", b"one")
    with pytest.raises(PlaceUnavailable):
        shelf.place.fetch(shelf.place.files()["a"], tmp_path / "no" / "folder")


def test_a_missing_bucket_makes_the_place_unavailable(stored, tmp_path):
    place = S3Place("easel-no-such-bucket", PREFIX, REGION)
    with pytest.raises(PlaceUnavailable, match="NoSuchBucket"):
        place.files()
    with pytest.raises(PlaceUnavailable, match="NoSuchBucket"):
        place.fetch(Listed("a.safetensors", '"tag"', 1), tmp_path / "copy")


def test_an_s3_that_does_not_answer_makes_the_place_unavailable(stored, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(PlaceUnavailable, match="Could not connect"):
        S3Place(BUCKET, PREFIX, REGION).files()


def test_an_image_without_botocore_is_named_as_the_reason(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "botocore.exceptions", None)
    with pytest.raises(PlaceUnavailable, match="no botocore"):
        S3Place(BUCKET, PREFIX, REGION).files()


def test_a_folder_that_cannot_be_read_file_by_file_is_unavailable(tmp_path):
    (tmp_path / "a.safetensors").symlink_to(tmp_path / "nowhere")
    with pytest.raises(PlaceUnavailable, match="No such file"):
        FolderPlace(tmp_path).files()
    shutil.rmtree(tmp_path)
    assert FolderPlace(tmp_path).files() == {}


def test_an_address_names_s3_or_a_folder(tmp_path):
    assert isinstance(place_at("s3://bucket/loras/sd/", {}), S3Place)
    assert isinstance(place_at(str(tmp_path), {}), FolderPlace)
