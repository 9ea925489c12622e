"""Which model `run` serves: a name of the catalogue, a folder, a hub repository, or a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from endpoint.catalogue import models as catalogue
from endpoint.core.model_folder.check import check, single_file
from endpoint.core.model_folder.files import contains_model
from endpoint.emulator.process.processes import ROOT

DEMO = ROOT / "model_package" / "demo" / "weights"
STAND_IN_SCRIPT = ROOT / "model_package" / "stand_in.py"
CACHE = ROOT / ".cache"


class NoModel(RuntimeError):
    """There is no such model here; the message says what would be one."""


@dataclass(frozen=True)
class ServedModel:
    """A model as a serving container gets it.

    Attributes:
        name: what a request calls it.
        folder: what `model_fn` gets as model_dir.
        environment: the container's variables for it.
    """

    name: str
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def choose(given: str | None) -> ServedModel:
    """Return the model that `--model GIVEN` means; without it the bundled one.

    Raises:
        NoModel: when it is neither a folder, nor a name of the catalogue, nor `org/name`.
    """
    if given is None:
        return ServedModel("sd", DEMO) if DEMO.is_dir() else _stand_in()
    known = catalogue.find(given)
    if Path(given).is_dir():
        folder = Path(given).resolve()
        return ServedModel(catalogue.as_name(folder.name), folder, _environment(None))
    if Path(given).is_file():
        raise NoModel(f"{single_file(Path(given))}")
    if known is not None:
        return _from_hub(known.name, known.repository, known)
    if given.count("/") == 1 and not given.startswith((".", "/", "~")):
        return _from_hub(catalogue.as_name(given.rpartition("/")[2]), given, None)
    names = ", ".join(catalogue.read())
    raise NoModel(
        f"{given} is no folder here, no repository of the Hugging Face hub (org/name), and none "
        f"of the models that Easel knows: {names}"
    )


def require_usable(model: ServedModel, environ: Mapping[str, str]) -> None:
    """Look at the files of a model before its container starts, which takes a minute to say less.

    Raises:
        NoModel: if the container could not load them; names each file and what to do.
    """
    variables = {**environ, **model.environment}
    if variables.get("EASEL_MODEL_ID") and not contains_model(model.folder):
        return
    pickled = variables.get("EASEL_ALLOW_PICKLE", "").strip().lower() == "on"
    faults = check(model.folder, allow_pickle=pickled)
    for fault in faults:
        if not fault.fatal:
            print(f"Easel: {fault}", file=sys.stderr, flush=True)
    fatal = [f"\n  {fault}" for fault in faults if fault.fatal]
    if fatal:
        raise NoModel(f"the model {model.name} cannot be used:{''.join(fatal)}")


def _from_hub(name: str, repository: str, known: catalogue.Model | None) -> ServedModel:
    # The container fetches the weights itself; its model_dir holds nothing.
    empty = CACHE / "empty-model"
    empty.mkdir(parents=True, exist_ok=True)
    return ServedModel(name, empty, {"EASEL_MODEL_ID": repository, **_environment(known)})


def _environment(known: catalogue.Model | None) -> dict[str, str]:
    return {} if known is None else {"EASEL_DEFAULTS": json.dumps(known.defaults)}


def _stand_in() -> ServedModel:
    folder = CACHE / "stand-in-model"
    if not (folder / "model_index.json").is_file():
        if not STAND_IN_SCRIPT.is_file():
            raise NoModel("No model is bundled here: name one with --model PATH_OR_HUB_ID")
        print("Making a stand-in model with random weights ...", flush=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(  # noqa: S603 - our own script
            [sys.executable, str(STAND_IN_SCRIPT), str(folder)],
            env={**os.environ, "TRANSFORMERS_VERBOSITY": "error"},
            check=False,
        )
        if made.returncode != 0:
            raise NoModel(f"{STAND_IN_SCRIPT.name} failed with exit code {made.returncode}")
    return ServedModel("sd", folder)
