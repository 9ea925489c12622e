"""The keys of batches and of their files in the deployment's bucket.

All keys are made here. An id of another form raises ValueError, so that no text from a request
becomes a part of a key.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable

from .lines import Line, Picture

BATCHES = "batches/"
FILES = "files/"

_ID = re.compile(r"[0-9a-f]{24}")
_DIGEST = re.compile(r"[0-9a-f]{16}")
_OWNER = re.compile(r"[0-9a-f]{16}")
_RESULTS = re.compile(r"(\d{6})-(\d+)-(\d+)\.jsonl")
_RECORDED = re.compile(r"\d{6}(?:-\d{6})*")
# Of an object of a batch or a picture of one, or of what is named after a run of one.
_NAMED = re.compile(r"batches/([0-9a-f]{24})/|easel-batch-([0-9a-f]{24})-\d{6}")
# An id begins with its age, so that a list has the newest first: milliseconds until this moment.
_END = 2**44 - 1
_OUTPUT = re.compile(r"(\d{6})-([0-9a-f]{12})\.(png|webp|jpeg)")


def batch_id(lines: Iterable[Line], *content: str) -> str:
    """Return the id of a batch: 24 hexadecimal digits.

    It depends on the pictures and on `content`, such as the model's version, so that a batch that
    is started again finds what it has stored.
    """
    digests = [picture.digest for line in lines for picture in line.pictures]
    text = json.dumps([digests, *content], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def is_id(text: str) -> bool:
    """Whether a text is the id of a batch."""
    return bool(_ID.fullmatch(text))


def batch(identifier: str) -> str:
    """Return the prefix of everything of a batch but the pictures of an endpoint."""
    return f"{BATCHES}{_checked(_ID, identifier)}/"


def lines(identifier: str) -> str:
    """Return the key of the batch's lines (`lines.to_jsonl`)."""
    return f"{lines_channel(identifier)}lines.jsonl"


def lines_channel(identifier: str) -> str:
    """Return the prefix of the channel `lines` of a managed-spot job."""
    return f"{batch(identifier)}lines/"


def checkpoints(identifier: str) -> str:
    """Return the prefix that mirrors a managed-spot job's checkpoints: its pictures."""
    return f"{batch(identifier)}checkpoints/"


def output(identifier: str) -> str:
    """Return the prefix that a managed-spot job needs for its output, which is empty."""
    return f"{batch(identifier)}output/"


def recorded(identifier: str) -> str:
    """Return the prefix of the names of the batch's pictures whose usage is recorded."""
    return f"{batch(identifier)}recorded/"


def recorded_files(numbers: Iterable[int]) -> list[str]:
    """Return names of objects that have the numbers of pictures in them, and no content."""
    texts = [f"{number:06}" for number in numbers]
    # S3's keys have at most 1,024 bytes.
    return ["-".join(texts[start : start + 100]) for start in range(0, len(texts), 100)]


def recorded_numbers(key: str) -> list[int]:
    """Return the numbers that the name of such an object has; none of any other key."""
    name = key.rpartition("/")[2]
    return [int(text) for text in name.split("-")] if _RECORDED.fullmatch(name) else []


def code(digest: str) -> str:
    """Return the prefix of a managed-spot job's code, by the digest of its files: 16 digits."""
    return f"{BATCHES}code/{_checked(_DIGEST, digest)}/"


def sagemaker_name(deployment: str, identifier: str, attempt: int) -> str:
    """Return SageMaker's name of an attempt of a managed-spot job; at most 63 characters."""
    return f"{sagemaker_prefix(deployment)}{_checked(_ID, identifier)[:12]}-{attempt}"


def sagemaker_prefix(deployment: str) -> str:
    """Return what the names of a deployment's managed-spot jobs begin with."""
    return f"easel-{deployment}-batch-"


# --- A batch of the gateway -----------------------------------------------------------------------
#
#     batches/<id>/batch.json                who asked for what, and how far it is
#     batches/<id>/lines/lines.jsonl         the lines, as those of the scripts
#     batches/<id>/parts.json                which lines are claimed, queued and answered together
#     batches/<id>/claims/<part>.json        who queues the pictures of a part, and where they come
#     batches/<id>/decided/<part>.json       which lines of a part have failed
#     batches/<id>/results/<part>-<succeeded lines>-<failed lines>.jsonl
#     batches/<id>/failures/<part>-<succeeded lines>-<failed lines>.jsonl
#     batches/<id>/plan.json.output, .errors  the upload that puts the output together
#     batches/<id>/output.jsonl, errors.jsonl
#     batches/<id>/go                        its writing is the event that continues the work
#     batches/owners/<owner>/<id>            whose it is
#     batches/open/<id>                      that it is not over
#     batches/requests/<owner>/<digest>.json  which batch the request with an Idempotency-Key has
#     files/<owner>/<id>.json                a file's name, size and purpose
#     files/<owner>/<id>.jsonl               its content


def new_id(now: float) -> str:
    """Return a new id of a batch or a file, which sorts before those of earlier moments.

    Args:
        now: seconds since 1970.
    """
    return f"{_END - int(now * 1_000):011x}{secrets.token_hex(7)[:13]}"


def created_at(identifier: str) -> int:
    """Return when `new_id` made an id, in seconds since 1970."""
    return (_END - int(_checked(_ID, identifier)[:11], 16)) // 1_000


def owner_of(key_name: str) -> str:
    """Return the owner that a key of the gateway stands for: 16 digits of its name's SHA-256."""
    return hashlib.sha256(key_name.encode()).hexdigest()[:16]


def record(identifier: str) -> str:
    """Return the key of what is known of a batch."""
    return f"{batch(identifier)}batch.json"


def parts(identifier: str) -> str:
    """Return the key of the list of the batch's parts."""
    return f"{batch(identifier)}parts.json"


def claims(identifier: str) -> str:
    """Return the prefix of the claims on parts."""
    return f"{batch(identifier)}claims/"


def claim(identifier: str, part: int) -> str:
    """Return the key of the claim on a part."""
    return f"{claims(identifier)}{part:06}.json"


def decision(identifier: str, part: int) -> str:
    """Return the key of what is decided of a part's lines."""
    return f"{batch(identifier)}decided/{part:06}.json"


def results(identifier: str) -> str:
    """Return the prefix of the results of parts; one that exists says that its part is over."""
    return f"{batch(identifier)}results/"


def failures(identifier: str) -> str:
    """Return the prefix of the results of lines that failed, by part."""
    return f"{batch(identifier)}failures/"


def results_file(part: int, succeeded: int, failed: int) -> str:
    """Return the name of a part's results, below either prefix: it has the numbers of lines."""
    return f"{part:06}-{succeeded}-{failed}.jsonl"


def counts_of(key: str) -> tuple[int, int, int] | None:
    """Return part, succeeded and failed lines of the key of results; None for any other key."""
    match = _RESULTS.fullmatch(key.rpartition("/")[2])
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def plan(identifier: str) -> str:
    """Return the key, but for its ending, of the upload that makes an output file."""
    return f"{batch(identifier)}plan.json"


def finished(identifier: str, name: str) -> str:
    """Return the key of a finished file: `output` or `errors`."""
    return f"{batch(identifier)}{name}.jsonl"


def go(identifier: str) -> str:
    """Return the key whose writing continues the work."""
    return f"{batch(identifier)}go"


def owned(owner: str, identifier: str = "") -> str:
    """Return the key that says whose a batch is; without an id, the prefix of the owner's."""
    return f"{BATCHES}owners/{_checked(_OWNER, owner)}/{identifier and _checked(_ID, identifier)}"


def opened(identifier: str = "") -> str:
    """Return the key that says that a batch is not over; without an id, the prefix of these."""
    return f"{BATCHES}open/{identifier and _checked(_ID, identifier)}"


def requested(owner: str, idempotency_key: str) -> str:
    """Return the key of the object that names the batch of a request with an Idempotency-Key."""
    digest = hashlib.sha256(idempotency_key.encode()).hexdigest()
    return f"{BATCHES}requests/{_checked(_OWNER, owner)}/{digest}.json"


def batch_of(key: str) -> str | None:
    """Return the id of the batch that an object belongs to, or a failure is named after."""
    match = _NAMED.search(key)
    return match[1] or match[2] if match else None


def inference_id(identifier: str, number: int) -> str:
    """Return the name of a picture's run, after which SageMaker may name its failure."""
    return f"easel-batch-{_checked(_ID, identifier)}-{number:06}"


def files(owner: str) -> str:
    """Return the prefix of an owner's files."""
    return f"{FILES}{_checked(_OWNER, owner)}/"


def described(owner: str, identifier: str) -> str:
    """Return the key of what is known of a file."""
    return f"{files(owner)}{_checked(_ID, identifier)}.json"


def content(owner: str, identifier: str) -> str:
    """Return the key of a file's content."""
    return f"{files(owner)}{_checked(_ID, identifier)}.jsonl"


# --- The pictures of an asynchronous endpoint, below its own output -------------------------------


def output_folder(identifier: str) -> str:
    """Return what SageMaker appends to the endpoint's output for a batch."""
    return f"batches/{_checked(_ID, identifier)}"


def output_file(number: int, picture: Picture) -> str:
    """Return the name of a picture's object: at most 32 characters, sorted as the pictures are.

    Args:
        number: of the picture in the batch, from 0 to 999,999.
        picture: the digest of its request makes the name another one when it is changed.
    """
    return f"{number:06}-{picture.digest[:12]}.{picture.request.file_format}"


def number_of(key: str) -> int | None:
    """Return the number of a picture's object; None for any other key."""
    match = _OUTPUT.fullmatch(key.rpartition("/")[2])
    return int(match[1]) if match else None


def _checked(form: re.Pattern[str], text: str) -> str:
    if not form.fullmatch(text):
        raise ValueError(f"{text[:64]!r} cannot be a part of a key")
    return text
