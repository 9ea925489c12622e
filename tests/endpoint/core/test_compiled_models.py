"""Keys and records of compiled models."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint.core import compiled_models
from endpoint.core.compiled_models import Compiled, Target, newest

TARGET = Target("sd", "training/weights/sd/0123456789abcdef/", 512, 512, "inf2", "image:tag")
MERGED = replace(TARGET, lora="watercolour", lora_weight=0.8, lora_content="ab" * 32)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"weights": "training/weights/sd/0123456789abcdee/"},
        {"width": 520},
        {"height": 520},
        {"image": "image:newer"},
        {"lora": "ink"},
        {"lora_weight": 0.7},
        {"lora_content": "cd" * 32},
    ],
)
def test_whatever_changes_the_result_changes_the_id(change):
    assert replace(MERGED, **change).id != MERGED.id
    assert replace(MERGED).id == MERGED.id


def test_a_job_is_told_what_to_compile():
    assert json.loads(MERGED.job_json()) == {
        "width": 512,
        "height": 512,
        "batch": 1,
        "instance": "inf2",
        "lora": {"name": "watercolour", "weight": 0.8},
    }
    assert json.loads(TARGET.job_json())["lora"] is None
    assert MERGED.title == "sd with watercolour at 0.8 at 512 x 512 for inf2"


def test_the_keys_are_in_one_folder_for_each_compilation():
    folder = compiled_models.folder(MERGED)
    assert compiled_models.is_record(compiled_models.record(MERGED))
    for key in (
        compiled_models.job_file(MERGED),
        compiled_models.lora_file(MERGED),
        compiled_models.progress(MERGED),
        compiled_models.output(MERGED),
    ):
        assert key.startswith(folder)
        assert not compiled_models.is_record(key)
    name = compiled_models.sagemaker_name("d" * 20, MERGED, 9999)
    assert name.startswith(compiled_models.sagemaker_prefix("d" * 20))
    assert len(name) <= 63


@pytest.mark.parametrize("name", ["../x", "a/b", "", "x" * 64])
def test_no_other_text_becomes_a_part_of_a_key(name):
    with pytest.raises(ValueError, match="cannot be a part of a key"):
        compiled_models.lora_file(replace(MERGED, lora=name))
    with pytest.raises(ValueError, match="cannot be a part of a key"):
        compiled_models.folder(replace(MERGED, model=name or "/"))


def test_a_record_is_read_as_it_was_written_and_fields_of_later_versions_are_left_out():
    made = Compiled(MERGED, "a/", {"unet/model.neuron": 7}, "2.21", 1.0, 60.0)
    data = json.loads(made.to_json())
    data["later"] = data["target"]["later"] = 1
    assert Compiled.from_json(json.dumps(data).encode()) == made
    assert made.size == 7


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"target": 1}', b"\xff"])
def test_what_is_no_record_is_a_value_error(content):
    with pytest.raises(ValueError, match="not the record"):
        Compiled.from_json(content)


def test_the_newest_whole_line_says_how_far_a_job_is():
    lines = [
        b'{"stage": "load", "component": null, "done": 0, "of": 5}',
        b'{"stage": "compile", "component": "unet", "done": 2, "of": 5}',
        b'{"stage": "comp',
    ]
    assert newest(b"\n".join(lines)) == "compiling unet, 2 of 5 done"
    assert newest(lines[0]) == "loading the weights, 0 of 5 done"
    assert newest(b'{"stage": "something else"}') == "something else"


@given(st.binary(max_size=100))
def test_any_progress_file_is_read(content):
    text = newest(content)
    assert len(text) <= 60
    assert text.isprintable()
