"""The model that `run` serves: bundled, from a folder, from the hub, or from the catalogue."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from endpoint.catalogue import models as catalogue
from endpoint.core.model_folder.check import check, single_file
from endpoint.core.model_folder.files import contains_model
from endpoint.emulator.process.processes import ROOT

DEMO = ROOT / "model_package" / "demo" / "weights"
CACHE = ROOT / ".cache"


class NoModel(RuntimeError):
    """No such model; the message lists what `--model` accepts."""


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


def choose(model: str | None) -> ServedModel:
    """Return the model that `--model MODEL` names; without it the bundled one.

    Raises:
        NoModel: if it is neither a folder, nor a name of the catalogue, nor `org/name`.
    """
    if model is None and not DEMO.is_dir():
        raise NoModel("No model is bundled here: name one with --model PATH_OR_HUB_ID")
    if model is None:
        return ServedModel("sd", DEMO)
    entry = catalogue.find(model)
    if Path(model).is_dir():
        folder = Path(model).resolve()
        return ServedModel(catalogue.as_name(folder.name), folder)
    if Path(model).is_file():
        raise NoModel(f"{single_file(Path(model))}")
    if entry is not None:
        return _from_hub(entry.name, entry.repository, entry)
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        return _from_hub(catalogue.as_name(model.rpartition("/")[2]), model, None)
    names = ", ".join(catalogue.read())
    raise NoModel(
        f"{model} is not a folder, not a repository of the Hugging Face hub (org/name), and not in "
        f"the catalogue: {names}"
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


def _from_hub(name: str, repository: str, entry: catalogue.Model | None) -> ServedModel:
    # The container fetches the weights itself; its model_dir holds nothing.
    empty = CACHE / "empty-model"
    empty.mkdir(parents=True, exist_ok=True)
    environment = {"EASEL_MODEL_ID": repository}
    if entry is not None:
        environment["EASEL_DEFAULTS"] = json.dumps(entry.defaults)
        environment |= entry.settings
        if entry.lora:
            environment |= {
                "EASEL_MERGED_LORA_ID": entry.lora.name,
                "EASEL_MERGED_LORA_REVISION": entry.lora.ref,
                "EASEL_MERGED_LORA_FILE": entry.lora.file,
            }
    return ServedModel(name, empty, environment)
