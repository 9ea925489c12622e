"""Compile a model for Inferentia2, as a SageMaker training job on a machine without a chip does.

    python -m neuron

Everything is below /opt/ml, or the folder that EASEL_TRAINING_HOME names:

    input/data/job/job.json   what to compile (job.py)
    input/data/model/         the model, in diffusers' format
    input/data/lora/          NAME.safetensors, if the job names an adapter
    checkpoints/              progress.jsonl, and compiled/ with a folder for each part that is
                              ready; mirrored to S3 meanwhile
    model/                    the compiled model, when all of it is ready
    output/failure            one sentence, if the job failed

An interrupted job that is started again with the same checkpoints compiles only what is missing.
The exit code is 0 if the model is compiled, 1 after a failure, and 143 after SIGTERM.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from easel.errors import EaselError
from easel.model_folder.files import list_files
from generation import InvalidField

from . import compiling
from .job import CompileFailed, Job, read_job
from .job_folder import fail
from .manifest import read_manifest


class Stopped(BaseException):
    """SIGTERM. Not an Exception: a library that catches those must not go on."""


def main() -> int:
    """Compile; return the exit code, with the failure's sentence in its file."""
    home = Path(os.environ.get("EASEL_TRAINING_HOME", "/opt/ml"))
    signal.signal(signal.SIGTERM, _stop)
    try:
        compile_model(home)
    except Stopped:
        print("stopped; the parts that are ready are kept", flush=True)
        return 128 + signal.SIGTERM
    except Exception as error:  # noqa: BLE001 - whatever it is, the job must say it
        if not isinstance(error, CompileFailed | EaselError | InvalidField):
            traceback.print_exc()
        fail(home, sentence(error))
        return 1
    return 0


def compile_model(home: Path) -> None:
    """Compile each part that is not ready, and write the result.

    Raises:
        CompileFailed: if the model cannot be compiled.
        EaselError: if it cannot be loaded.
        InvalidField: if the job or its adapter is invalid.
    """
    channels, ready = home / "input" / "data", home / "checkpoints" / "compiled"
    progress = Progress(home / "checkpoints" / "progress.jsonl")
    job = read_job(channels / "job" / "job.json")
    folder = compiling.find_model(channels / "model")
    adapter = compiling.find_adapter(channels / "lora", job.lora)
    compiling.require_compiler()
    _keep_if_same(ready, fingerprint(job, channels / "model", adapter))

    progress.add("load")
    pipeline = compiling.load_merged(channels / "model", folder, job.lora, adapter)
    if adapter is not None:
        progress.add("merge")
    parts = compiling.Parts(pipeline, folder, job, ready / "pipeline")
    del pipeline  # its parts are dropped one by one
    _compile_parts(parts, ready, progress)

    result = home / "model"
    try:
        for place in (ready / "pipeline", *(ready / part for part in parts.names)):
            into = result if place.name == "pipeline" else result / place.name
            shutil.copytree(place, into, copy_function=_link, dirs_exist_ok=True)
        compiling.write_rest(channels / "model", folder, job, result)
        progress.add("check", done=len(parts.names), of=len(parts.names))
        read_manifest(result)
    except BaseException:
        # SageMaker uploads the folder also of a job that was stopped.
        for path in result.iterdir() if result.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
    progress.add("write", done=len(parts.names), of=len(parts.names))


def _compile_parts(parts: compiling.Parts, ready: Path, progress: Progress) -> None:
    for done, part in enumerate(parts.names):
        progress.add("compile", part, done, len(parts.names))
        if compiling.is_compiled(ready / part):
            continue
        unfinished = ready / "writing"
        shutil.rmtree(unfinished, ignore_errors=True)
        began = time.monotonic()
        parts.compile(part, unfinished)
        (unfinished / part).replace(ready / part)
        print(f"{part}: {time.monotonic() - began:.0f} s", flush=True)
    shutil.rmtree(ready / "writing", ignore_errors=True)


def fingerprint(job: Job, model: Path, adapter: Path | None) -> str:
    """Return a text that differs for another job, model, adapter or compiler."""
    parts: dict[str, Any] = {
        "job": job.to_dict(),
        "model": {path: (model / path).stat().st_size for path in list_files(model)},
        "lora": hashlib.sha256(adapter.read_bytes()).hexdigest() if adapter else None,
        "compiler": compiling.compiler_version(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _keep_if_same(ready: Path, current: str) -> None:
    """Delete what another job compiled."""
    path = ready / "fingerprint"
    if not path.is_file() or path.read_text(encoding="utf-8") != current:
        shutil.rmtree(ready, ignore_errors=True)
        ready.mkdir(parents=True)
        path.write_text(current, encoding="utf-8")


class Progress:
    """Appends lines to `progress.jsonl`, and prints them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        stage: str,
        component: str | None = None,
        done: int | None = None,
        of: int | None = None,
    ) -> None:
        """Append what begins now, with the number of parts that are compiled, and of all."""
        row = {"time": round(time.time(), 1), "stage": stage, "component": component,
               "done": done, "of": of}  # fmt: skip
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def sentence(error: Exception) -> str:
    """Return what a person can act on."""
    if isinstance(error, CompileFailed | EaselError):
        return str(error)
    if isinstance(error, InvalidField):
        return f"job.json: {error}."
    if isinstance(error, MemoryError) or "failed with error code -9" in str(error):
        return "The compiler ran out of memory; start the job on an instance with more of it."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full; start the job with a larger volume."
    return f"Compiling failed: {type(error).__name__}: {error}"


def _link(source: str, target: str) -> None:
    """Link a file, or copy it to another file system."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _stop(*_: object) -> NoReturn:
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
