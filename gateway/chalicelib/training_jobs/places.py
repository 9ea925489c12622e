"""The names of training jobs, and the keys of their objects in the deployment's bucket.

All keys are made here. An id, an owner or a data set that has another form than this module's
raises ValueError, so that no text from a request becomes a part of a key.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string

CODE = "training/code/"
JOBS = "training/jobs/"
DATASETS = "datasets/"
# The object that is uploaded last, and whose arrival starts the pipeline.
MARKER = "start.json"
DATASET_DAYS = 30  # the lifecycle rule of the bucket; pictures may show people
# Owners that are no key of the gateway.
OPERATOR, LOCAL = "operator", "local"

_ALPHABET = string.ascii_lowercase + string.digits
_ID = re.compile(r"[a-z0-9]{12}")
_DIGEST = re.compile(r"[0-9a-f]{16}")
_OWNER = re.compile(rf"[0-9a-f]{{16}}|{OPERATOR}|{LOCAL}")
# The name of a model, and that of an adapter (generation.Name); both are parts of existing keys.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MONTH = re.compile(r"\d{4}-\d{2}")
_SAMPLE = re.compile(r"step-(\d{5,})\.png")
_MARKER_KEY = re.compile(rf"{DATASETS}({_OWNER.pattern})/({_ID.pattern})/{re.escape(MARKER)}")


def new_id() -> str:
    """Return a new id of a job or of a data set: 12 lower-case letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(12))


def is_id(text: str) -> bool:
    """Whether a text is an id."""
    return bool(_ID.fullmatch(text))


def owner_of(key_name: str) -> str:
    """Return the owner that a key of the gateway stands for: 16 digits of its name's SHA-256."""
    return hashlib.sha256(key_name.encode()).hexdigest()[:16]


def sagemaker_name(deployment: str, job: str, attempt: int) -> str:
    """Return SageMaker's name of an attempt, counted from 1; at most 63 characters."""
    name = f"easel-{deployment}-{_checked(_ID, job)}"
    return name if attempt == 1 else f"{name}-{attempt}"


def job_of(sagemaker_job: str, deployment: str) -> tuple[str, int] | None:
    """Return the id and the attempt of a SageMaker job; None if it is none of the deployment."""
    match = re.fullmatch(
        rf"easel-{re.escape(deployment)}-({_ID.pattern})(?:-([1-9]\d{{0,3}}))?", sagemaker_job
    )
    return (match[1], int(match[2] or 1)) if match else None


def code(digest: str) -> str:
    """Return the prefix of the trainer's code, by the digest of its files: 16 digits."""
    return f"{CODE}{_checked(_DIGEST, digest)}/"


def weights(model: str, digest: str) -> str:
    """Return the prefix of a model's weights for training, by the digest of their source."""
    return f"training/weights/{_checked(_NAME, model)}/{_checked(_DIGEST, digest)}/"


def record(job: str) -> str:
    """Return the key of the job's record (`state.Record`)."""
    return f"{_job(job)}record.json"


def job_channel(job: str) -> str:
    """Return the prefix of the channel `job`."""
    return f"{_job(job)}job/"


def job_file(job: str) -> str:
    """Return the key of `job.json`."""
    return f"{job_channel(job)}job.json"


def checkpoints(job: str) -> str:
    """Return the prefix that mirrors the container's checkpoint folder."""
    return f"{_job(job)}checkpoints/"


def progress(job: str) -> str:
    """Return the key of `progress.jsonl`."""
    return f"{checkpoints(job)}progress.jsonl"


def samples(job: str) -> str:
    """Return the prefix of the sample sheets."""
    return f"{checkpoints(job)}samples/"


def sample(job: str, step: int) -> str:
    """Return the key of the sample sheet of a step."""
    return f"{samples(job)}step-{step:05}.png"


def step_of_sample(key: str) -> int | None:
    """Return the step of a sample sheet's key; None for any other key."""
    match = _SAMPLE.fullmatch(key.rpartition("/")[2])
    return int(match[1]) if match else None


def output(job: str) -> str:
    """Return the prefix of what the job leaves; SageMaker adds its name and `output/model/`."""
    return f"{_job(job)}output/"


def is_result(key: str, name: str) -> bool:
    """Whether a key below `output` is the finished adapter's."""
    return key.startswith(JOBS) and key.endswith(f"/{_checked(_NAME, name)}.safetensors")


def name_claim(model: str, name: str) -> str:
    """Return the key whose conditional put reserves an adapter's name; it holds owner and job."""
    return f"training/names/{_checked(_NAME, model)}/{_checked(_NAME, name)}.json"


def running(owner: str) -> str:
    """Return the key whose conditional put is the owner's only running job."""
    return f"training/owners/{_checked(_OWNER, owner)}/running.json"


def month(owner: str, month: str) -> str:
    """Return the key of the count of an owner's jobs in a month, such as 2026-11."""
    return f"training/owners/{_checked(_OWNER, owner)}/{_checked(_MONTH, month)}.json"


def dataset(owner: str, dataset: str) -> str:
    """Return the prefix of a data set: the channel `pictures`."""
    return f"{DATASETS}{_checked(_OWNER, owner)}/{_checked(_ID, dataset)}/"


def dataset_file(owner: str, dataset_id: str, name: str) -> str:
    """Return the key of a file of a data set."""
    return f"{dataset(owner, dataset_id)}{_checked(_FILE, name)}"


def dataset_marker(owner: str, dataset_id: str) -> str:
    """Return the key whose arrival starts the pipeline."""
    return f"{dataset(owner, dataset_id)}{MARKER}"


def dataset_of_marker(key: str) -> tuple[str, str] | None:
    """Return the owner and the id of a marker's data set; None for any other key."""
    match = _MARKER_KEY.fullmatch(key)
    return (match[1], match[2]) if match else None


def adapters(model: str) -> str:
    """Return the prefix of a model's published adapters."""
    return f"loras/{_checked(_NAME, model)}/"


def adapter(model: str, name: str) -> str:
    """Return the key of a published adapter."""
    return f"{adapters(model)}{_checked(_NAME, name)}.safetensors"


def _job(job: str) -> str:
    return f"{JOBS}{_checked(_ID, job)}/"


def _checked(form: re.Pattern[str], text: str) -> str:
    if not form.fullmatch(text):
        raise ValueError(f"{text[:64]!r} cannot be a part of a key")
    return text
