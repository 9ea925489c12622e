"""GitHub Actions for the tests: runs the shell steps of a job as a runner does.

It knows the parts of the language that .github/workflows uses: contexts, `&&`, `||`, `!`, `==`,
`!=`, `format` and `cancelled`. Steps that use an action do nothing, but for the credentials.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / ".github" / "workflows"
_TOKENS = re.compile(r"'[^']*'|&&|\|\||!=|==|!|[(),{}]|[A-Za-z_][\w-]*(?:\.[\w-]+)*|\d+|\s+")
_BASH = shutil.which("bash") or "bash"
_OPERATORS = {"&&": " and ", "||": " or ", "!": " not ", "==": "==", "!=": "!="}
_FUNCTIONS = {"format", "cancelled", "success"}


def load(name: str) -> dict[str, Any]:
    """Return a workflow; its triggers are under `on`, which YAML reads as true."""
    text = (FOLDER / f"{name}.yml").read_text("utf-8")
    found: dict[Any, Any] = yaml.safe_load(text)
    found["on"] = found.pop(True)
    return found


def evaluate(expression: str, contexts: Mapping[str, Any]) -> Any:
    """Return the value of an expression without its braces; what is missing is an empty text."""

    def look_up(path: str) -> Any:
        value: Any = contexts
        for part in path.split("."):
            value = value.get(part, "") if isinstance(value, Mapping) else ""
        return value

    python = []
    for token in _TOKENS.findall(expression):
        if token in _OPERATORS or token in _FUNCTIONS or token.startswith("'"):
            python.append(_OPERATORS.get(token, token))
        elif re.match(r"[A-Za-z_]", token):
            python.append(f"look_up({token!r})")
        else:
            python.append(token)
    functions = {
        "look_up": look_up,
        "format": lambda text, *values: text.format(*values),
        "cancelled": lambda: False,
    }
    return eval("".join(python).replace("\n", " ").strip(), functions)  # noqa: S307 - our workflows


def fill(text: Any, contexts: Mapping[str, Any]) -> str:
    """Return a text with the values of its expressions."""
    return re.sub(
        r"\$\{\{(.*?)\}\}",
        lambda found: _text(evaluate(found[1].strip(), contexts)),
        str(text),
        flags=re.DOTALL,
    )


def _text(value: Any) -> str:
    return {True: "true", False: "false", None: ""}.get(value, str(value))


def holds(condition: str | None, contexts: Mapping[str, Any]) -> bool:
    """Whether a job or a step runs."""
    if condition is None:
        return True
    inner = re.fullmatch(r"\$\{\{(.*)\}\}", condition.strip(), flags=re.DOTALL)
    return bool(evaluate(inner[1] if inner else condition, contexts))


@dataclass
class Ran:
    """What a job did.

    Attributes:
        ok: whether every step succeeded.
        steps: the names of the shell steps that ran.
        outputs: the job's outputs.
        summary: its summary.
        log: what its steps printed.
    """

    ok: bool = True
    steps: list[str] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    log: str = ""


class Runner:
    """A machine that runs jobs in one folder.

    Args:
        folder: the working directory.
        environment: the variables of every step.
        credentials: the outputs of the step that gets credentials.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], credentials: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._credentials = credentials

    def run(self, name: str, job_name: str, contexts: Mapping[str, Any]) -> Ran | None:
        """Run a job of a workflow; None if its condition does not hold."""
        workflow = load(name)
        job = workflow["jobs"][job_name]
        if not holds(job.get("if"), contexts):
            return None
        steps: dict[str, Any] = {}
        known = {**contexts, "steps": steps}
        ran = Ran()
        common = {**workflow.get("env", {}), **job.get("env", {})}
        for number, step in enumerate(job["steps"]):
            if not holds(step.get("if"), known):
                continue
            outputs = self._credentials if "uses" in step else {}
            if "run" in step:
                variables = {**common, **step.get("env", {})}
                values = {key: fill(value, known) for key, value in variables.items()}
                outputs = self._shell(f"{job_name}-{number}", step["run"], values, ran)
            if "id" in step:
                steps[step["id"]] = {"outputs": outputs}
            ran.steps += [step["name"]] if "run" in step else []
            if not ran.ok:
                return ran
        ran.outputs = {key: fill(value, known) for key, value in job.get("outputs", {}).items()}
        return ran

    def _shell(self, name: str, script: str, values: dict[str, str], ran: Ran) -> dict[str, str]:
        place = self._folder / ".runner"
        place.mkdir(exist_ok=True)
        files = {key: place / f"{name}-{key}" for key in ("script", "output", "summary")}
        files["script"].write_text(script, "utf-8")
        files["output"].write_text("", "utf-8")
        files["summary"].write_text("", "utf-8")
        done = subprocess.run(
            [_BASH, "--noprofile", "--norc", "-eo", "pipefail", str(files["script"])],
            cwd=self._folder,
            env={
                **{key: os.environ[key] for key in ("HOME", "LANG", "TMPDIR") if key in os.environ},
                **self._environment,
                **values,
                "GITHUB_OUTPUT": str(files["output"]),
                "GITHUB_STEP_SUMMARY": str(files["summary"]),
                "GITHUB_REPOSITORY": "me/easel",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        ran.ok = done.returncode == 0
        ran.log += done.stdout + done.stderr
        ran.summary += files["summary"].read_text("utf-8")
        lines = files["output"].read_text("utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines)
