"""The topics of the contract: what is recorded of each, and how it is compared."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.contract import commands, deployment, gateway, model
from tests.contract.cases import DEPLOYMENTS

RECORDED = Path(__file__).with_name("recorded")
COMMAND = "python -m tests.contract record"

TOPICS: dict[str, Callable[[], Any]] = {
    **{f"http_{name}": partial(gateway.http, name) for name in DEPLOYMENTS},
    "routes": gateway.routes,
    "openapi": gateway.openapi,
    "storage": gateway.storage,
    "invocations": gateway.invocations,
    "log": gateway.log,
    "options": commands.options,
    "setup": commands.setup,
    "infrastructure": deployment.infrastructure,
    "training": deployment.training,
    "gateway_settings": deployment.settings,
    "variables": deployment.variables,
    "package": deployment.package,
    "model_package": model.answers,
}
# They take more than ten seconds.
SLOW = {"package", "model_package"}


def record(name: str) -> None:
    """Write what a topic is now."""
    RECORDED.mkdir(exist_ok=True)
    _file(name).write_text(_text(TOPICS[name]()) + "\n", "utf-8")


def differences(name: str) -> list[str]:
    """Return in words how a topic differs from what was recorded; nothing where it does not."""
    recorded = json.loads(_file(name).read_text("utf-8"))
    now = json.loads(_text(TOPICS[name]()))
    return list(_differences(recorded, now, ()))


def _file(name: str) -> Path:
    return RECORDED / f"{name}.json"


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _differences(recorded: Any, now: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(now, dict):
        yield from _between_objects(recorded, now, path)
    elif isinstance(recorded, list) and isinstance(now, list):
        yield from _between_lists(recorded, now, path)
    elif recorded != now:
        yield f"{_title(path)}\n  - {_short(recorded)}\n  + {_short(now)}"


def _between_objects(
    recorded: dict[str, Any], now: dict[str, Any], path: tuple[str, ...]
) -> Iterator[str]:
    for name in recorded:
        if name in now:
            yield from _differences(recorded[name], now[name], (*path, name))
        else:
            yield f"{_title((*path, name))}\n  - {_short(recorded[name])}\n  + (nothing)"
    for name in now:
        if name not in recorded:
            yield f"{_title((*path, name))}\n  - (nothing)\n  + {_short(now[name])}"
    # A job's id is a hash of JSON, so the order of its members counts.
    if list(recorded) != list(now) and set(recorded) == set(now):
        yield f"{_title(path)}\n  - {list(recorded)}\n  + {list(now)}"


def _between_lists(recorded: list[Any], now: list[Any], path: tuple[str, ...]) -> Iterator[str]:
    if len(recorded) == len(now):
        for number, (old, new) in enumerate(zip(recorded, now, strict=True)):
            yield from _differences(old, new, (*path, str(number)))
        return
    lines = [[_text(part) for part in value] for value in (recorded, now)]
    changed = [line for line in difflib.ndiff(*lines) if line[:2] in {"- ", "+ "}]
    yield "\n  ".join([_title(path), *changed])


def _title(path: tuple[str, ...]) -> str:
    return " / ".join(path) or "(all)"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]} ... ({len(text)} characters)"
