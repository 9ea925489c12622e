import json

import pytest
from PIL import Image

from model_package.training.dataset import class_items, class_sets, epoch, read_folder
from model_package.training.failures import TrainingFailed
from model_package.training.job import Job


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)
    return path


def captions(folder, **fields):
    items, _ = read_folder(folder, Job(name="a", **fields))
    return {item.path.name: item.caption for item in items}


def test_captions_come_from_the_first_source_that_has_one(tmp_path):
    for name in ("1.png", "2.png", "3.png", "4.png", "5.PNG"):
        picture(tmp_path / name)
    picture(tmp_path / "10_a zorble" / "6.png")
    (tmp_path / "1.txt").write_text("from\r\ntext", encoding="utf-8-sig")
    (tmp_path / "2.caption").write_text(" from  caption\n")
    (tmp_path / "3.png.txt").write_text("")
    rows = [{"file_name": "1.png", "text": "unused"}, {"file_name": "4.png", "text": "from row"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))

    assert captions(tmp_path, instance_prompt="instance") == {
        "1.png": "from text",
        "2.png": "from caption",
        "3.png": "",
        "4.png": "from row",
        "5.PNG": "instance",
        "6.png": "a zorble",
    }


def test_a_csv_file_has_captions_too(tmp_path):
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "metadata.csv").write_text('file_name,text\nin/a.png,"a, b"\n')

    assert captions(tmp_path) == {"a.png": "a, b"}


def test_file_names_are_captions_if_asked(tmp_path):
    for name in ("a_red-fox (2).png", "dog_12.png"):
        picture(tmp_path / name)

    assert set(captions(tmp_path, captions="names").values()) == {"a red fox", "dog"}


def test_the_trigger_is_put_before_captions_without_it(tmp_path):
    for name, text in (("a", "a dog"), ("b", "WTRCLR dog"), ("c", "")):
        picture(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(text)

    made = captions(tmp_path, trigger="wtrclr")
    assert list(made.values()) == ["wtrclr, a dog", "WTRCLR dog", "wtrclr"]


def test_repeats_come_from_the_folder_or_the_job(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "10_dog" / "b.png")

    items, _ = read_folder(tmp_path, Job(name="a", instance_prompt="x", repeats=3))
    assert {item.path.name: item.repeats for item in items} == {"a.png": 3, "b.png": 10}


def test_a_set_has_settings_of_its_own(tmp_path):
    for name in ("a.png", "dogs/b.png", "dogs/3_small/c.png", "dogs/puppies/d.png", "others/e.png"):
        picture(tmp_path / name)
    (tmp_path / "dogs" / "b.txt").write_text("a brown dog, grass")
    sets = [
        {"folder": "dogs", "instance_prompt": "a dog", "trigger": "sks", "repeats": 2,
         "flip": True, "caption_dropout": 0.5},
        {"folder": "dogs/puppies", "shuffle_tags": True, "keep_tags": 1},
        {"folder": "others", "of_class": True, "repeats": 5},
    ]  # fmt: skip
    job = Job.from_dict({"name": "a", "instance_prompt": "x", "sets": sets, "preserve": "pictures",
                         "class_prompt": "animals", "trigger": "t"})  # fmt: skip
    items, _ = read_folder(tmp_path, job)
    made = {item.path.name: item for item in items}

    captions = {name: item.caption for name, item in made.items()}
    assert captions == {"a.png": "t, x", "b.png": "sks, a brown dog, grass",
                        "c.png": "sks, a dog", "d.png": "t, x"}  # fmt: skip
    assert [made[f"{name}.png"].repeats for name in "abcd"] == [1, 2, 2, 1]
    assert [made[f"{name}.png"].flip for name in "abcd"] == [False, True, True, False]
    assert [made[f"{name}.png"].caption_dropout for name in "ab"] == [0.05, 0.5]
    assert (made["d.png"].shuffle_tags, made["d.png"].keep_tags) == (True, 1)
    (other,) = class_sets(tmp_path, job)
    assert (other.caption, other.repeats) == ("animals", 5)
    names = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")]
    assert epoch(names, job) == sum(item.repeats for item in items)


def test_a_set_without_pictures_is_named(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(TrainingFailed, match="no picture in the folder dogs"):
        read_folder(tmp_path, Job.from_dict({"name": "a", "instance_prompt": "x",
                                             "sets": [{"folder": "dogs"}]}))  # fmt: skip


def test_class_pictures_have_the_class_prompt(tmp_path):
    picture(tmp_path / "a.png")
    job = Job(name="a", instance_prompt="sks", trigger="t", repeats=5, preserve="pictures",
              class_prompt="a dog")  # fmt: skip

    (item,) = class_items(tmp_path, job)[0]
    assert (item.caption, item.repeats) == ("a dog", 1)


def test_files_that_are_not_read_are_noted(tmp_path):
    picture(tmp_path / "a.png")
    for name in ("b.heic", "c.gif", ".hidden.png"):
        (tmp_path / name).write_bytes(b"")

    items, notes = read_folder(tmp_path, Job(name="a", instance_prompt="x"))
    assert [item.path.name for item in items] == ["a.png"]
    assert [note.split()[0] for note in notes] == ["b.heic", "c.gif"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no pictures"),
        ({"a.png": None}, r"a\.png has no caption; add a\.txt"),
        ({"a.png": None, "a.txt": b"\xff\xfe"}, r"a\.txt is not UTF-8"),
        ({"a.png": None, "a.txt": b"x" * 1_001}, r"The caption of a\.png must be at most"),
        ({"a.png": None, "a.txt": b"x" * 30_000}, r"a\.txt is larger than"),
        ({"a.png": None, "metadata.jsonl": b"[]"}, r"Line 1 of metadata\.jsonl"),
        ({"a.png": None, "metadata.jsonl": b"{}"}, r"Row 1 of metadata\.jsonl"),
        ({"a.png": None, "metadata.csv": b"a,b\n1,2"}, r"Row 1 of metadata\.csv"),
    ],
)
def test_a_folder_that_cannot_be_used_is_a_sentence(tmp_path, files, message):
    for name, content in files.items():
        if content is None:
            picture(tmp_path / name)
        else:
            (tmp_path / name).write_bytes(content)

    with pytest.raises(TrainingFailed, match=message):
        read_folder(tmp_path, Job(name="a"))
