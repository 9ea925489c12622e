from __future__ import annotations

import pytest

from endpoint.core.problems import ScriptError
from endpoint.provision.files.payload import CODE, code_files, prefix_of, ray_serve_files


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


def test_the_application_for_ray_serve_is_next_to_the_code_and_brings_the_server():
    places = {file.place for file in ray_serve_files()}
    assert {"config.yaml", "deployment.py", "code/requirements.txt"} <= places
    server = CODE.parent / "server"
    modules = {
        f"server/{path.name}" for path in server.iterdir() if path.suffix in {".py", ".html"}
    }
    assert modules <= places
    assert not places & {file.place for file in code_files()}


def test_what_ray_serve_installs_has_the_versions_of_the_tests_and_leaves_torch_alone():
    def lines(path):
        return {line for line in path.read_text("utf-8").splitlines() if "==" in line}

    wanted = lines(CODE.parent / "ray_serve" / "requirements.txt")
    assert wanted < lines(CODE.parent / "requirements.txt")
    assert not any(line.startswith("torch") for line in wanted)


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
