"""The options of every script: names, metavars, choices and defaults, as `--help` has them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# How each script is run today, with `python -m` or as a file. Change it here where that moves: what
# is recorded is by the name on the left.
COMMANDS = {
    "create_endpoint": ["endpoint.create_endpoint"],
    "use_endpoint": ["endpoint.use_endpoint"],
    "delete_endpoint": ["endpoint.delete_endpoint"],
    "status": ["endpoint", "status"],
    "start": ["endpoint", "start"],
    "stop": ["endpoint", "stop"],
    "doctor": ["endpoint", "doctor"],
    "deploy": ["endpoint", "deploy"],
    "destroy": ["endpoint", "destroy"],
    "plan": ["endpoint", "plan"],
    "apply": ["endpoint", "apply"],
    "prove": ["endpoint", "prove"],
    "estimate": ["endpoint", "estimate"],
    "build_image": ["endpoint", "build_image"],
    "create_key": ["endpoint", "create-key"],
    "emulator": ["endpoint.emulator"],
    "emulator run": ["endpoint.emulator", "run"],
    "emulator aws": ["endpoint.emulator", "aws"],
    "emulator model-server": ["endpoint.emulator", "model-server"],
    "emulator api-gateway": ["endpoint.emulator", "api-gateway"],
    "endpoint/create_endpoint.py": ["endpoint/create_endpoint.py"],
    "endpoint/use_endpoint.py": ["endpoint/use_endpoint.py"],
    "endpoint/delete_endpoint.py": ["endpoint/delete_endpoint.py"],
}
# One process for all, since importing takes longest. The parser that prints its help is the one
# that a person would see.
_LOOK = """
import argparse, json, pathlib, runpy, sys, warnings
warnings.simplefilter("ignore")
shown = None

def described(action):
    choices = None if action.choices is None else list(action.choices)
    return {
        "names": list(action.option_strings) or [action.metavar or action.dest],
        "kind": type(action).__name__,
        "metavar": None if action.nargs == 0 else action.metavar or action.dest.upper(),
        "arguments": action.nargs,
        "type": action.type.__name__ if action.type in (int, float, pathlib.Path) else None,
        "choices": choices,
        "default": None if action.default == argparse.SUPPRESS else repr(action.default),
        "required": action.required,
    }

def print_help(parser, file=None):
    global shown
    shown = [described(action) for action in parser._actions]

argparse.ArgumentParser.print_help = print_help
result = {}
for name, words in json.loads(sys.argv[1]).items():
    shown, sys.argv = None, [words[0], *words[1:], "--help"]
    run = runpy.run_path if words[0].endswith(".py") else runpy.run_module
    try:
        if run is runpy.run_path:
            run(words[0], run_name="__main__")
        else:
            run(words[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code
    result[name] = {"exit code": code, "options": shown}
print(json.dumps(result))
"""


def options() -> dict[str, Any]:
    """Return every script's options."""
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, json.dumps(COMMANDS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.replace(str(ROOT), "<root>"))
    return found


def setup() -> dict[str, Any]:
    """Return the commands that `./setup.sh --help` names."""
    shell = ["bash", str(ROOT / "setup.sh"), "--help"]
    shown = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
    return {
        "commands": re.findall(r"^ +\./setup\.sh (\w+)", shown, re.MULTILINE),
        "environment": re.findall(r"^ +([A-Z_]+) ", shown, re.MULTILINE),
    }
