"""Adapters that are published, replaced and deleted while the model runs."""

import gc
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from easel.errors import AdaptersUnavailable
from easel.lora import published
from easel.lora.keys import LoraUnusable
from easel.lora.places import FileChanged, Listed, PlaceUnavailable
from easel.lora.published import Published


@dataclass(eq=False)
class Adapter:
    content: str
    path: Path
    version: str


class World:
    """A place that notes what it is asked, a clock, and the adapters that are made of files."""

    def __init__(self):
        self.contents, self.asked, self.now = {}, [], 1_000.0
        self.broken, self.before_fetch = False, lambda: None
        self.published = Published(self, self.read, lambda: self.now)

    def files(self):
        self.ask("list")
        return {
            name: Listed(f"{name}.safetensors", content, len(content))
            for name, content in self.contents.items()
        }

    def fetch(self, listed, path):
        self.ask(f"fetch {listed.path}")
        self.before_fetch()
        if self.contents.get(listed.path.removesuffix(".safetensors")) != listed.tag:
            raise FileChanged(listed.path)
        path.write_text(listed.tag)

    def ask(self, what):
        self.asked.append(what)
        if self.broken:
            raise PlaceUnavailable("S3 does not answer")

    def read(self, path, version):
        content = path.read_text()
        if content.startswith("bad"):
            raise LoraUnusable(content)
        return Adapter(content, path, version)

    def find(self, *names):
        """Update as a request does; return the contents of its adapters, and what was asked."""
        self.asked.clear()
        needed = self.published.is_outdated(names)
        self.published.update(names)
        assert needed == bool(self.asked)
        adapters = [self.published.find(name) for name in names]
        return [adapter and adapter.content for adapter in adapters], list(self.asked)


@pytest.fixture
def world():
    return World()


def test_an_adapter_is_found_at_once_and_fetched_once(world):
    assert world.find("a") == ([None], ["list"])
    world.now += 1
    world.contents["b"] = "new"
    assert world.find("b") == (["new"], ["list", "fetch b.safetensors"])
    assert world.find("b") == (["new"], [])
    world.now += 9.9
    assert world.find("b") == (["new"], [])


def test_an_unknown_name_is_looked_up_once_in_ten_seconds(world):
    assert world.find("a") == ([None], ["list"])
    for _ in range(9):
        world.now += 1
        assert world.find("a") == ([None], [])
    world.now += 1
    assert world.find("a") == ([None], ["list"])


def test_names_that_nobody_asked_for_lately_are_forgotten(world):
    for number in range(50):
        world.find(f"unknown-{number}")
        world.now += 1
    assert len(world.published._missed) <= 10


def test_a_replaced_file_is_fetched_again_after_ten_seconds_and_a_deleted_one_is_gone(world):
    world.contents["a"] = "one"
    (before, _) = world.find("a")
    first = world.published.find("a")
    world.contents["a"] = "two"
    world.now += 10
    after, asked = world.find("a")

    assert (before, after, asked) == (["one"], ["two"], ["list", "fetch a.safetensors"])
    assert first.version != world.published.find("a").version
    del world.contents["a"]
    world.now += 10
    assert world.find("a") == ([None], ["list"])
    assert world.published.names == []


def test_a_fetched_file_is_deleted_once_no_request_uses_it(world):
    world.contents["a"] = "one"
    world.find("a")
    used = world.published.find("a")
    world.contents["a"] = "two"
    world.now += 10
    world.find("a")
    path = used.path

    assert path.read_text() == "one"
    del used
    assert not path.exists()
    assert world.published.find("a").path.read_text() == "two"


def test_a_file_that_is_replaced_while_it_is_fetched_is_the_new_one(world):
    def replace():
        world.contents["a"], world.before_fetch = "two", lambda: None

    world.contents["a"], world.before_fetch = "one", replace
    assert world.find("a")[0] == ["two"]


def test_a_file_that_is_deleted_while_it_is_fetched_is_unknown(world):
    world.contents["a"], world.before_fetch = "one", world.contents.clear
    assert world.find("a")[0] == [None]


def test_a_file_that_changes_all_the_time_can_be_tried_again(world):
    world.contents["a"] = "0"
    world.before_fetch = lambda: world.contents.update(a=world.contents["a"] + "0")
    with pytest.raises(AdaptersUnavailable):
        world.find("a")


def test_a_broken_place_is_no_unknown_adapter_and_is_left_alone_for_ten_seconds(world, capsys):
    world.broken = True
    with pytest.raises(AdaptersUnavailable) as caught:
        world.find("a")
    assert caught.value.to_dict()["error"] == {
        "code": "adapters_unavailable",
        "message": "lora: a could not be looked up; try again.",
        "retry_after": 10,
    }
    assert json.loads(capsys.readouterr().out)["event"] == "loras_unavailable"
    world.broken, world.contents["a"] = False, "one"
    with pytest.raises(AdaptersUnavailable):
        world.find("a")
    assert world.asked == []
    world.now += 10
    assert world.find("a")[0] == ["one"]


def test_what_was_fetched_works_while_the_place_is_broken(world):
    world.contents["a"] = "one"
    world.find("a")
    world.broken = True
    world.now += 60
    assert world.find("a")[0] == ["one"]
    # A name that was unknown before may exist by now.
    with pytest.raises(AdaptersUnavailable):
        world.find("unknown")


def test_an_unusable_file_is_fetched_once_and_says_why(world, capsys):
    world.contents["a"] = "bad: no LoRA"
    for _ in range(2):
        with pytest.raises(LoraUnusable, match="bad: no LoRA"):
            world.find("a")
    assert world.asked == []
    assert "a" not in world.published.names
    assert list(world.published._folder.iterdir()) == []
    assert json.loads(capsys.readouterr().out)["path"] == "a.safetensors"
    world.contents["a"] = "good"
    world.now += 10
    assert world.find("a")[0] == ["good"]


def test_a_file_that_is_too_large_is_not_fetched(world, monkeypatch):
    monkeypatch.setattr(published, "_LARGEST_FILE", 3)
    world.contents |= {"a": "long", "b": "abc"}
    with pytest.raises(LoraUnusable, match="more than 3 bytes"):
        world.find("a")
    assert world.find("b")[0] == ["abc"]


def test_the_disk_keeps_what_was_used_last(world, monkeypatch):
    monkeypatch.setattr(published, "_LARGEST_FOLDER", 8)
    world.contents |= {"a": "aaaa", "b": "bbbb", "c": "cccc"}
    for name in ("a", "b", "a", "c"):
        world.now += 0.1
        world.find(name)

    kept = {path.read_text() for path in world.published._folder.iterdir()}
    assert kept == {"aaaa", "cccc"}
    assert world.find("b") == (["bbbb"], ["fetch b.safetensors"])


def test_a_folder_that_somebody_deleted_is_made_again(world):
    world.contents["a"] = "one"
    shutil.rmtree(world.published._folder)
    assert world.find("a")[0] == ["one"]


def test_nothing_stays_on_the_disk():
    world = World()
    world.contents["a"] = "one"
    world.find("a")
    folder = world.published._folder
    assert len(list(folder.iterdir())) == 1
    del world
    gc.collect()
    assert not folder.exists()


def test_a_known_change_is_read_at_once_and_once(world):
    world.contents["a"] = "one"
    world.find("a")
    world.now += 5
    world.contents["a"] = "two"
    changed = world.now - 1
    assert world.published.is_outdated(["a"], changed)
    world.published.update(["a"], changed)
    assert world.published.find("a").content == "two"
    world.now += 0.5
    assert world.published.is_outdated(["a"], changed) is False


def test_within_the_second_of_a_change_every_request_looks_again(world):
    world.contents["a"] = "one"
    world.find("a")
    assert world.published.is_outdated(["a"], int(world.now))
    world.now += 1.1
    world.published.update(["a"], int(world.now - 1.1))
    assert not world.published.is_outdated(["a"], int(world.now - 1.1))


def test_a_known_change_that_cannot_be_read_is_no_picture_of_the_earlier_file(world):
    world.contents["a"] = "one"
    world.find("a")
    world.broken = True
    for _ in range(2):
        world.asked.clear()
        with pytest.raises(AdaptersUnavailable, match="changed file"):
            world.published.update(["a"], world.now + 1)
    assert world.asked == []
    assert world.find("a") == (["one"], [])
