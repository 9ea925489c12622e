"""What the bundled model says about itself: it is in its folder, and it is true."""

import json
import re
import shutil

from easel.defaults import read_description
from easel.model_folder.check import check
from model_package.demo.data.description import description
from model_package.demo.data.things import all_things
from model_package.demo.export import write_json
from model_package.demo.work_dir import WEIGHTS
from tests.model_package.doubles.toolkit import Toolkit


def test_the_exported_file_has_the_description():
    written = json.loads((WEIGHTS / "easel.json").read_text("utf-8"))

    assert description().items() <= written.items()
    assert read_description(WEIGHTS).to_dict() == description()


def test_a_file_with_a_vocabulary_is_json_of_few_lines(tmp_path):
    for content in ({"steps": 20}, {"steps": 20, **description()}):
        write_json(tmp_path / "easel.json", content)
        text = (tmp_path / "easel.json").read_text("utf-8")
        assert json.loads(text) == content
        assert len(text.splitlines()) < 40


def test_every_thing_is_in_the_vocabulary_once_under_all_its_names():
    vocabulary = description()["vocabulary"]
    entries = [[entry] if isinstance(entry, str) else entry
               for entry in vocabulary["things"] + vocabulary["characters"]]  # fmt: skip
    bare = sorted([re.sub("^(an?|the) ", "", first), *others] for first, *others in entries)

    assert bare == sorted(list(thing.words) for thing in all_things())
    assert str(len(entries)) in description()["about"]


def test_articles_fit_their_words():
    firsts = {entry if isinstance(entry, str) else entry[0]
              for entry in description()["vocabulary"]["things"]}  # fmt: skip

    assert {"an apple", "a unicorn", "an hourglass", "grapes", "saturn"} <= firsts


def test_the_model_reports_it():
    described = Toolkit(WEIGHTS).post({"describe": True}).json()

    assert description().items() <= described.items()


def test_the_check_of_a_folder_knows_descriptions(tmp_path):
    shutil.copytree(WEIGHTS, tmp_path / "model")
    assert [fault for fault in check(tmp_path / "model") if fault.fatal] == []
    (tmp_path / "model" / "easel.json").write_text('{"about": 7}', "utf-8")

    (fault,) = [fault for fault in check(tmp_path / "model") if fault.fatal]
    assert "about: must be text" in str(fault)
