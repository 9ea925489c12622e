import json

import pytest

from generation import InvalidField
from model_package.neuron.job import CompileFailed, Job, MergedLora, read_job

SIZE = {"width": 512, "height": 768}


def test_a_job_needs_no_more_than_a_size():
    assert Job.from_dict(SIZE) == Job(512, 768)


def test_a_job_is_read_as_it_is_written():
    job = Job(512, 768, MergedLora("watercolour", 0.7))
    assert Job.from_dict(job.to_dict()) == job
    assert str(job.lora) == "watercolour:0.7"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"width": 500}, "width"),
        ({"height": 8}, "height"),
        ({"width": None}, "width"),
        ({"width": True}, "width"),
        ({"batch": 2}, "batch"),
        ({"instance": "trn2"}, "instance"),
        ({"guidance": True}, "guidance"),
        ({"lora": "watercolour"}, "lora"),
        ({"lora": {"name": "watercolour"}}, "lora"),
        ({"lora": {"name": "watercolour", "weight": True}}, "lora"),
        ({"lora": {"name": "watercolour", "weight": 100}}, "lora"),
        ({"lora": {"name": "watercolour", "weight": float("nan")}}, "lora"),
        ({"lora": {"name": "../watercolour", "weight": 1}}, "lora"),
        ({"lora": {"name": "a:1,b", "weight": 1}}, "lora"),
        ({"lora": {"name": "", "weight": 1}}, "lora"),
    ],
)
def test_an_invalid_field_is_refused_by_name(fields, field):
    with pytest.raises(InvalidField) as refusal:
        Job.from_dict({**SIZE, **fields})
    assert refusal.value.field == field


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000])
def test_a_file_that_is_no_json_is_refused(tmp_path, text):
    path = tmp_path / "job.json"
    path.write_text(text)
    with pytest.raises(CompileFailed, match=r"job\.json cannot be read"):
        read_job(path)


def test_json_that_is_no_object_is_refused(tmp_path):
    path = tmp_path / "job.json"
    path.write_text(json.dumps([SIZE]))
    with pytest.raises(InvalidField, match="must be a JSON object"):
        read_job(path)
