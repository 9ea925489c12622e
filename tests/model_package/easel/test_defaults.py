import pytest

from easel.defaults import Defaults, read_description
from easel.errors import ModelUnusable


def test_what_one_place_does_not_know_the_next_does():
    first, second = Defaults(steps=4), Defaults(steps=50, guidance_scale=7.5)
    assert first.over(second) == Defaults(steps=4, guidance_scale=7.5)
    assert Defaults(guidance_scale=0.0).over(second).guidance_scale == 0.0


def test_a_folder_without_the_file_knows_nothing(tmp_path):
    assert Defaults.from_folder(tmp_path) == Defaults()


def test_the_file_in_the_folder_is_read(tmp_path):
    (tmp_path / "easel.json").write_text('{"steps": 4, "guidance_scale": 1}')
    assert Defaults.from_folder(tmp_path) == Defaults(steps=4, guidance_scale=1.0)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"\xff", b'{"steps": 1000}', b'{"steps": "4"}', b'{"colour": 1}']
)
def test_a_broken_file_is_refused_by_its_name(tmp_path, content):
    (tmp_path / "easel.json").write_bytes(content)
    with pytest.raises(ModelUnusable, match=r"easel\.json in the model's folder"):
        Defaults.from_folder(tmp_path)


def test_a_description_next_to_the_defaults_is_read_apart_from_them(tmp_path):
    (tmp_path / "easel.json").write_text('{"steps": 4, "about": "A zoo.", "examples": null}')

    assert Defaults.from_folder(tmp_path) == Defaults(steps=4)
    assert read_description(tmp_path).to_dict() == {"about": "A zoo."}
    assert read_description(tmp_path / "none").to_dict() == {}


@pytest.mark.parametrize("content", ["{", '{"about": 7}', '{"vocabulary": {"things": []}}'])
def test_a_broken_description_is_refused_by_its_file(tmp_path, content):
    (tmp_path / "easel.json").write_text(content)
    with pytest.raises(ModelUnusable, match=r"easel\.json in the model's folder"):
        read_description(tmp_path)


def test_a_description_is_no_default_of_an_environment():
    with pytest.raises(ValueError, match="about: is not a default"):
        Defaults.from_dict({"about": "A zoo."})
