from __future__ import annotations

import hashlib
import json
import stat

import pytest

from endpoint.commands import create_key


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys.json"


def create(file, capsys, *arguments):
    assert create_key.main([*arguments, "--file", str(file)]) == 0
    return str(capsys.readouterr().out.strip())


def test_only_the_keys_hash_is_stored(file, capsys):
    key = create(file, capsys, "ada", "--per-minute", "5")
    sha256 = hashlib.sha256(key.encode()).hexdigest()
    assert json.loads(file.read_text()) == [{"name": "ada", "sha256": sha256, "per_minute": 5}]


def test_a_key_can_have_a_budget_and_be_the_owners(file, capsys):
    create(file, capsys, "ada", "--usd-per-month", "5", "--owner")
    (entry,) = json.loads(file.read_text())

    assert (entry["usd_per_month"], entry["owner"]) == (5, True)


@pytest.mark.parametrize("budget", ["0", "-1", "nan", "1e9", "much"])
def test_a_budget_is_an_amount_of_dollars(file, budget, capsys):
    with pytest.raises(SystemExit):
        create_key.main(["ada", "--file", str(file), "--usd-per-month", budget])
    assert "month" in capsys.readouterr().err
    assert not file.exists()


def test_an_existing_key_is_kept_unless_it_is_replaced(file, capsys):
    create(file, capsys, "ada")
    before = file.read_text()

    assert create_key.main(["ada", "--file", str(file)]) == 1
    assert "already has a key for ada" in capsys.readouterr().err
    assert file.read_text() == before
    assert create(file, capsys, "bob", "--expires", "2099-01-01").startswith("easel_")
    assert create(file, capsys, "ada", "--replace").startswith("easel_")
    entries = json.loads(file.read_text())
    assert [entry["name"] for entry in entries] == ["bob", "ada"]
    assert entries[1]["sha256"] not in before


def test_the_file_is_its_owners_alone_whatever_it_was(file, capsys):
    create(file, capsys, "ada")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    create(file, capsys, "bob")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_or_read_is_one_sentence(tmp_path, capsys):
    (tmp_path / "wrong.json").write_text('[{"name": "ada"}]')
    for place in (tmp_path / "missing" / "keys.json", tmp_path, tmp_path / "wrong.json"):
        assert create_key.main(["ada", "--file", str(place)]) == 2
        said = capsys.readouterr().err
        assert str(place) in said
        # Whoever runs the command already is not told to run it.
        assert "Create it with" not in said


@pytest.mark.parametrize(
    "argv",
    [
        ["a b"],
        [""],
        ["easel-smoke-test"],
        ["ada", "--expires", "soon"],
        ["ada", "--expires", "2020-01-01"],
        ["ada", "--expires", "0001-01-01T00:00:00+14:00"],
        ["ada", "--per-minute", "-5"],
        ["ada", "--per-minute", "0"],
        ["ada", "--per-minute", "5000"],
        ["../x"],
        [],
    ],
)
def test_a_wrong_argument_is_refused(argv, file):
    with pytest.raises(SystemExit) as ended:
        create_key.main([*argv, "--file", str(file)])
    assert ended.value.code == 2
    assert not file.exists()


def test_a_byte_order_mark_in_the_file_is_read_over(file, capsys):
    create(file, capsys, "ada")
    file.write_text("\ufeff" + file.read_text(), encoding="utf-8")
    create(file, capsys, "bob")
    assert [entry["name"] for entry in json.loads(file.read_text())] == ["ada", "bob"]


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "{}", "[1]"])
def test_a_file_that_is_no_list_of_keys_is_named(file, capsys, content):
    file.write_text(content)
    assert create_key.main(["ada", "--file", str(file)]) == 2
    assert str(file) in capsys.readouterr().err
    assert file.read_text() == content
