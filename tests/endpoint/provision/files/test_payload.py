from __future__ import annotations

import pytest

from endpoint.core.problems import ScriptError
from endpoint.provision.files.payload import CODE, code_files, prefix_of


def test_code_in_subfolders_is_packed_with_its_folders(tmp_path):
    for place in ("inference.py", "easel/__init__.py", "easel/speed/recipes.json"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("")
    places = [file.place for file in code_files(tmp_path)]
    assert places == ["code/easel/__init__.py", "code/easel/speed/recipes.json",
                      "code/inference.py"]  # fmt: skip


def test_caches_and_other_files_stay_here(tmp_path):
    (tmp_path / "inference.py").write_text("")
    for place in ("easel/__pycache__/a.cpython-312.py", "easel/a.pyc", "notes.md"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("")
    assert [file.place for file in code_files(tmp_path)] == ["code/inference.py"]


def test_every_module_of_the_serving_code_is_packed():
    modules = {path.relative_to(CODE).as_posix() for path in CODE.rglob("*.py")}
    assert modules <= {file.place.removeprefix("code/") for file in code_files()}


def test_a_change_in_a_subfolder_changes_the_prefix(tmp_path):
    (tmp_path / "inference.py").write_text("")
    (tmp_path / "easel").mkdir()
    module = tmp_path / "easel" / "defaults.py"
    module.write_text("STEPS = 25\n")
    before = prefix_of("sd", code_files(tmp_path))
    module.write_text("STEPS = 26\n")
    assert prefix_of("sd", code_files(tmp_path)) != before


def test_a_folder_without_inference_is_refused(tmp_path):
    with pytest.raises(ScriptError, match=r"has no inference\.py"):
        code_files(tmp_path)
