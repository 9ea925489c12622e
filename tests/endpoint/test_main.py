"""What every script has in common."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from endpoint.__main__ import COMMANDS, main
from endpoint.commands import status

ROOT = Path(__file__).parents[2]
FILES = {"create": "create_endpoint", "use": "use_endpoint", "delete": "delete_endpoint"}
WITHOUT_AWS = {"create-key", "estimate", "models"}
WITH_AWS = [name for name in COMMANDS if name not in WITHOUT_AWS]
COMMON = ["--name", "--region", "--profile", "--yes", "--dry-run", "--json"]


def run(*command, folder, **environment):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout


def test_a_reader_that_has_enough_ends_the_output_without_a_traceback():
    command = [sys.executable, "-m", "endpoint", "models", "--json"]
    receiver, sender = os.pipe()
    os.close(receiver)
    done = subprocess.run(command, cwd=ROOT, stdout=sender, stderr=subprocess.PIPE, check=False)
    os.close(sender)
    assert (done.returncode, done.stderr) == (1, b"")


def test_without_arguments_every_command_is_listed_with_one_line(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, command in COMMANDS.items():
        assert f"  {name:12}{command.parser().description}" in lines


def test_an_unknown_command_is_a_wrong_argument(capsys):
    assert main(["paint"]) == 2
    assert "no such command: paint" in capsys.readouterr().err


@pytest.mark.parametrize("name", FILES)
def test_the_three_files_run_as_a_file_as_a_module_and_as_a_command(name, tmp_path):
    module = f"endpoint.{FILES[name]}"
    file = ROOT / "endpoint" / f"{FILES[name]}.py"
    by_file = run(str(file), "--help", folder=tmp_path)
    assert by_file.startswith(f"usage: python -m endpoint {name} ")
    assert by_file == run("-m", module, "--help", folder=tmp_path, PYTHONPATH=str(ROOT))
    assert by_file == run("-m", "endpoint", name, "--help", folder=ROOT)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_usage_has_the_commands_name(name):
    assert COMMANDS[name].parser().prog == f"python -m endpoint {name}"


@pytest.mark.parametrize("name", WITH_AWS)
def test_it_has_the_common_options(name):
    assert set(COMMON) <= set(COMMANDS[name].parser().format_help().split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_lists_it(name):
    assert f"`{name}`" in (ROOT / "docs" / "endpoint-scripts.md").read_text("utf-8")


def test_the_page_explains_every_option():
    page = (ROOT / "docs" / "endpoint-scripts.md").read_text("utf-8")
    for name in WITH_AWS:
        for action in COMMANDS[name].parser()._actions:
            for option in action.option_strings:
                if option not in {"-h", "--help"}:
                    assert f"`{option}" in page, f"{name} {option}"


def test_every_script_is_a_command():
    scripts = {path.stem for path in (ROOT / "endpoint" / "commands").glob("[a-z]*.py")}
    modules = {command.__name__.rpartition(".")[2] for command in COMMANDS.values()}
    assert modules == scripts | set(FILES.values())


def test_without_a_region_it_says_which_option_sets_one(monkeypatch, tmp_path, capsys):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert status.main([]) == 2
    assert "--region us-east-1" in capsys.readouterr().err


def test_an_unknown_profile_is_a_failure_and_no_traceback(capsys):
    assert status.main(["--profile", "no-such-profile", "--region", "us-east-1"]) == 1
    assert "no-such-profile" in capsys.readouterr().err
