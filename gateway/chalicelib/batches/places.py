"""The keys of batches and of their files in the deployment's bucket.

All keys are made here. An id of another form raises ValueError, so that no text from a request
becomes a part of a key.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable

from .lines import Line, Picture

BATCHES = "batches/"
FILES = "files/"

_ID = re.compile(r"[0-9a-f]{24}")
_DIGEST = re.compile(r"[0-9a-f]{16}")
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


def code(digest: str) -> str:
    """Return the prefix of a managed-spot job's code, by the digest of its files: 16 digits."""
    return f"{BATCHES}code/{_checked(_DIGEST, digest)}/"


def sagemaker_name(deployment: str, identifier: str, attempt: int) -> str:
    """Return SageMaker's name of an attempt of a managed-spot job; at most 63 characters."""
    return f"easel-{deployment}-batch-{_checked(_ID, identifier)[:12]}-{attempt}"


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
    return f"{number:06}-{picture.digest[:12]}.{picture.request.format}"


def number_of(key: str) -> int | None:
    """Return the number of a picture's object; None for any other key."""
    match = _OUTPUT.fullmatch(key.rpartition("/")[2])
    return int(match[1]) if match else None


def _checked(form: re.Pattern[str], text: str) -> str:
    if not form.fullmatch(text):
        raise ValueError(f"{text[:64]!r} cannot be a part of a key")
    return text
