"""What holds for every script."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    "create_endpoint",
    "delete_endpoint",
    "deploy",
    "destroy",
    "doctor",
    "start",
    "status",
    "stop",
    "use_endpoint",
]
COMMON = ["--name", "--region", "--profile", "--yes", "--dry-run", "--json"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_runs_as_a_module_and_as_a_file_from_anywhere(name, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    module = [sys.executable, "-m", f"endpoint.{name}", "--help"]
    file = [sys.executable, str(ROOT / "endpoint" / f"{name}.py"), "--help"]
    one = subprocess.run(module, cwd=tmp_path, env=environment, capture_output=True, check=True)
    two = subprocess.run(file, cwd=tmp_path, capture_output=True, check=True)
    assert one.stdout == two.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_has_the_options_that_all_have(name):
    parser = importlib.import_module(f"endpoint.{name}").parser()
    assert set(COMMON) <= set(parser.format_help().split())


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_page_names_it(name):
    assert f"`{name}`" in (ROOT / "docs" / "endpoint-scripts.md").read_text("utf-8")


def test_the_page_explains_every_option():
    page = (ROOT / "docs" / "endpoint-scripts.md").read_text("utf-8")
    for name in SCRIPTS:
        for action in importlib.import_module(f"endpoint.{name}").parser()._actions:
            for option in action.option_strings:
                if option not in {"-h", "--help"}:
                    assert f"`{option}" in page, f"{name} {option}"


def test_without_a_region_it_says_which_option_names_one(monkeypatch, tmp_path, capsys):
    from endpoint import status

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert status.main([]) == 1
    assert "--region us-east-1" in capsys.readouterr().err


def test_an_unknown_profile_is_a_failure_and_no_traceback(capsys):
    from endpoint import status

    assert status.main(["--profile", "nobody-has-this", "--region", "us-east-1"]) == 1
    assert "nobody-has-this" in capsys.readouterr().err
