"""Settings are read by the program that will read them there, before anything is changed.

The gateway and the model package ship separately, so neither is imported here: each one's own
reader runs in a process of its own, with exactly the variables that it would get.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from endpoint.core.problems import BadArgument, ScriptError

_ROOT = Path(__file__).parents[2]
GATEWAY = _ROOT / "gateway"
MODEL_PACKAGE = _ROOT / "model_package" / "code"
_READ_SECONDS = 60
# Prints the fault as [variable, problem, example], or null.
_GATEWAY_READER = """
from chalicelib.settings import BadSetting, Settings
try:
    Settings.from_environment(variables)
except BadSetting as error:
    fault = [error.variable, error.problem, error.example]
"""
_MODEL_READER = """
from easel.errors import SettingInvalid
from easel.settings import Settings
try:
    Settings.from_environ(variables)
except SettingInvalid as error:
    variable, _, problem = str(error).partition(" ")
    fault = [variable, problem, ""]
"""
_FRAME = """
import json, sys
sys.path.insert(0, sys.argv[1])
variables, fault = json.load(sys.stdin), None
{reader}
print(json.dumps(fault))
"""
# The options that the gateway's variables are made from.
_OPTIONS = {
    "EASEL_API_KEYS": "--keys",
    "EASEL_SECRET": "--new-secret",
    "EASEL_PICTURES_PER_MINUTE": "--pictures-per-minute",
    "EASEL_PROMPT_FILTER": "--prompt-filter",
    "EASEL_PROMPT_FILTER_WORDS": "--prompt-filter-words",
    "EASEL_CORS_ORIGINS": "--cors-origins",
}


def check_gateway(
    variables: Mapping[str, str], *, folder: Path = GATEWAY, names: Mapping[str, str] | None = None
) -> None:
    """Have the gateway read its variables.

    Args:
        variables: all of them.
        folder: the gateway's folder.
        names: what the operator calls a variable, where it is not known by its own name.

    Raises:
        BadArgument: for the first variable that the gateway cannot read.
    """
    _check(folder, _GATEWAY_READER, variables, names or {})


def check_container(variables: Mapping[str, str], *, folder: Path = MODEL_PACKAGE) -> None:
    """Have the model package read the container's variables; see `check_gateway`."""
    _check(folder, _MODEL_READER, variables, {})


def _check(
    folder: Path, reader: str, variables: Mapping[str, str], names: Mapping[str, str]
) -> None:
    for variable, value in variables.items():
        if "\0" in value or not _is_text(value):
            called = names.get(variable) or _with_option(variable)
            raise BadArgument(f"{called} has a character that no environment variable can hold.")
    fault = _fault(folder, reader, tuple(sorted(variables.items())))
    if fault is None:
        return
    variable, problem, example = fault
    advice = f"For example: {example}" if example else ""
    raise BadArgument(f"{names.get(variable) or _with_option(variable)} {problem}.", advice)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes of the command line that are not UTF-8
        return False
    return True


def _with_option(variable: str) -> str:
    option = _OPTIONS.get(variable)
    return f"{variable} ({option})" if option else variable


@cache
def _fault(
    folder: Path, reader: str, variables: tuple[tuple[str, str], ...]
) -> tuple[str, str, str] | None:
    """Return what a reader finds: variable, problem and example; None if it can read all."""
    program = _FRAME.format(reader=reader)
    done = subprocess.run(  # noqa: S603 - our own interpreter and arguments
        [sys.executable, "-I", "-c", program, str(folder)],
        input=json.dumps(dict(variables)),
        capture_output=True, text=True, check=False, timeout=_READ_SECONDS,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ScriptError(f"{folder} cannot read its settings: {last}")
    fault: tuple[str, str, str] | None = json.loads(done.stdout)
    return fault
