"""Train a LoRA adapter, as a SageMaker training job runs it.

    python -m training

Everything is below /opt/ml, or the folder that EASEL_TRAINING_HOME names:

    input/data/job/job.json   what to train (job.py); or TOML files of kohya's scripts (kohya.py)
    input/data/pictures/      the pictures and captions
    input/data/class/         pictures of the class, with preserve "pictures"
    input/data/model/         the model, in diffusers' format
    checkpoints/              checkpoints, progress.jsonl and samples/; mirrored to S3 meanwhile
    model/                    the adapter, when it is trained
    output/failure            one sentence, if training failed

The exit code is 0 if the adapter is trained, 1 after a failure, and 143 after SIGTERM.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from generation import InvalidField

from . import dataset, examples, kohya
from .adapter import Adapter, metadata
from .base_model import BaseModel, load
from .dataset import Item
from .examples import Examples
from .failures import TrainingFailed
from .job import Job, read_fields
from .job_folder import fail, gpu_problem
from .loop import Data, Loop, Stopped, has_prodigy, require_optimizer

# Fields that can change between an interruption and its continuation.
_FREE = {"checkpoint_seconds", "sample_prompts", "sample_every", "validate_every", "usd_per_hour",
         "name"}  # fmt: skip


def main() -> int:
    """Train; return the exit code, with the failure's sentence in its file."""
    home = Path(os.environ.get("EASEL_TRAINING_HOME", "/opt/ml"))
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        train(home, signals)
    except Stopped:
        print("stopped; a checkpoint is written", flush=True)
        return 128 + signal.SIGTERM
    except Exception as error:  # noqa: BLE001 - whatever it is, the job must say it
        if not isinstance(error, TrainingFailed | InvalidField):
            traceback.print_exc()
        fail(home, sentence(error))
        return 1
    return 0


def train(home: Path, signals: list[int]) -> None:
    """Read the job, encode the pictures, train, and write the adapter."""
    channels = home / "input" / "data"
    job = read_job(channels)
    if problem := gpu_problem(home):
        raise TrainingFailed(problem)
    items, notes = dataset.read_folder(channels / "pictures", job)
    class_items: list[Item] = []
    if job.preserve == "pictures":
        class_items = dataset.class_sets(channels / "pictures", job)
        if not class_items:
            class_items, more = dataset.class_items(channels / "class", job)
            notes += more
    for note in notes:
        print(note, flush=True)
    require_optimizer(job)

    base = load(channels / "model", job.precision)
    fingerprint = fingerprint_of(job, items, class_items, base)
    trained, held_out = examples.hold_out(items, job)
    if held_out:
        print(f"{len(held_out)} pictures are for the validation loss only", flush=True)
    data = prepare(job, base, trained, class_items, held_out)
    adapter = Adapter(base, job)
    steps = job.steps or min(max(100 * len(items), 400), 2_000)
    described = metadata(
        base, job, pictures=len(items), steps=steps, resolution=job.resolution or base.resolution
    )
    path = home / "model" / f"{job.name}.safetensors"
    # What cannot be written is found now, and not after hours.
    adapter.write(home / "checkpoints" / "adapter.check", described)
    (home / "checkpoints" / "adapter.check").unlink()

    loop = Loop(
        job,
        base,
        adapter,
        data,
        steps=steps,
        folder=home / "checkpoints",
        fingerprint=fingerprint,
        stopped=lambda: bool(signals),
    )
    loop.run()
    adapter.write(path, described)
    print(f"{path.name} is trained", flush=True)


def read_job(channels: Path) -> Job:
    """Read `job.json`, and TOML files of kohya's scripts next to it, over which it has priority."""
    folder = channels / "job"
    files = sorted(folder.glob("*.toml"))
    if not files:
        return Job.from_dict(read_fields(folder / "job.json"))
    own = read_fields(folder / "job.json") if (folder / "job.json").is_file() else {}
    config = kohya.read(files)
    fields, _ = kohya.translate(config, prodigy=has_prodigy())
    # Epochs become steps, for which the pictures are counted.
    items, _ = dataset.read_folder(channels / "pictures", Job.from_dict({**fields, **own}))
    pictures = sum(item.repeats for item in items)
    fields, rows = kohya.translate(config, pictures, prodigy=has_prodigy())
    for row in rows:
        print(row, flush=True)
    return Job.from_dict({**fields, **own})


def prepare(
    job: Job,
    base: BaseModel,
    items: list[Item],
    class_items: list[Item],
    held_out: Sequence[Item] = (),
) -> Data:
    """Encode pictures and texts once; the encoders are not needed after that."""
    pictures = Examples(examples.encode(items, base, job), job, "pictures")
    of_class = None
    if class_items:
        of_class = Examples(examples.encode(class_items, base, job), job, "class")
    validated = pictures
    if held_out:
        validated = Examples(examples.encode(held_out, base, job), job, "held out")
    base.move_vae("cpu")
    texts = {}
    if not job.text_encoder_rate:
        needed = {"", *pictures.captions(), *validated.captions(), *job.sample_prompts}
        needed |= of_class.captions() if of_class else set()
        needed |= {job.class_prompt} if job.preserve == "output" else set()
        with torch.no_grad():
            for text in sorted(needed):
                (texts[text],) = base.encode_texts([text])
        base.free_encoders()
    return Data(pictures, of_class, texts, validated)


def fingerprint_of(job: Job, items: list[Item], class_items: list[Item], base: BaseModel) -> str:
    """Return a hash of all that the curve depends on."""
    fields = {name: value for name, value in job.to_dict().items() if name not in _FREE}
    # Names with an underscore are diffusers' own, such as the folder that it was read from.
    config: Any = {
        name: str(value) for name, value in base.unet.config.items() if not name.startswith("_")
    }
    parts = [fields, examples.digest(items), examples.digest(class_items), config]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def sentence(error: Exception) -> str:
    """Return what a person can act on."""
    if isinstance(error, InvalidField):
        return f"job.json: {error}."
    if isinstance(error, TrainingFailed):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full; start the job with a larger volume."
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "The GPU's memory is full; lower batch_size, resolution or rank."
    return f"The trainer failed: {type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
