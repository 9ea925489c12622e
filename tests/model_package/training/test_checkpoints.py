import torch

from model_package.training.checkpoints import load_newest, read_checkpoint, save_checkpoint


def held(step):
    return {"step": step, "weights": torch.full((1000,), float(step))}


def test_the_newest_checkpoint_is_loaded(tmp_path):
    for step in (90, 100, 1000):
        save_checkpoint(tmp_path, step, held(step))
    state = load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 1000
    assert torch.equal(state["weights"], torch.full((1000,), 1000.0))


def test_a_checkpoint_torn_in_the_middle_is_not_used(tmp_path, capsys):
    save_checkpoint(tmp_path, 1, held(1))
    torn = save_checkpoint(tmp_path, 2, held(2))
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    state = load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 1
    assert torn.name in capsys.readouterr().out


def test_a_checkpoint_with_one_wrong_byte_is_not_used(tmp_path):
    path = save_checkpoint(tmp_path, 2, held(2))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert read_checkpoint(path) is None


def test_an_empty_file_is_not_a_checkpoint(tmp_path):
    (tmp_path / "step-0000001.pt").touch()
    assert load_newest(tmp_path) is None


def test_a_checkpoint_that_was_being_written_is_not_looked_at(tmp_path):
    save_checkpoint(tmp_path, 1, held(1))
    (tmp_path / "step-0000002.writing").write_bytes(b"half")
    state = load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 1


def test_only_the_two_newest_stay(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, held(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-0000002.pt",
        "step-0000003.pt",
    ]


def test_a_missing_folder_holds_nothing(tmp_path):
    assert load_newest(tmp_path / "none") is None
