"""Models compiled for Inferentia2: their keys in the deployment's bucket, and what they are.

    compiled/code/<digest>/                 the compiler's program, by the digest of its files
    compiled/models/<model>/<id>/
        job/job.json                        what to compile
        lora/<name>.safetensors             the adapter to merge, as it was when the job was made
        checkpoints/progress.jsonl          how far the job is, and what it can continue with
        output/<job>/output/model/          what it leaves
        compiled.json                       that it is complete; written last

The id is a hash of all that the result depends on: the same content has the same id, so that
nothing is compiled twice. All keys are made here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

COMPILED = "compiled/"
_MODELS = f"{COMPILED}models/"
INSTANCES = ("inf2",)
# Another one when the same job.json is compiled to something else.
_FORMAT = 1
_ID = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_RECORD = re.compile(rf"{_MODELS}({_NAME.pattern})/({_ID.pattern})/compiled\.json")
_LONGEST_STAGE = 60  # characters
_STAGES = {
    "load": "loading the weights",
    "merge": "merging the adapter",
    "compile": "compiling",
    "check": "checking the result",
    "write": "writing the result",
}


@dataclass(frozen=True)
class Target:
    """What to compile.

    Attributes:
        model: its name in requests.
        weights: the prefix of the weights, which stands for their content.
        width: of all pictures, in pixels; height likewise.
        height: in pixels.
        instance: the family of instances, one of INSTANCES.
        image: the repository and tag of the image, which has the compiler.
        lora: the name of the adapter that is merged into the weights; None for none.
        lora_weight: its weight.
        lora_content: the SHA-256 of its file; empty for none.
    """

    model: str
    weights: str
    width: int
    height: int
    instance: str
    image: str
    lora: str | None = None
    lora_weight: float = 1.0
    lora_content: str = ""

    @property
    def id(self) -> str:
        """16 hexadecimal digits of the hash of all of it."""
        text = json.dumps([_FORMAT, asdict(self)], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """What it is, in words."""
        adapter = f" with {self.lora}" if self.lora else ""
        if self.lora and self.lora_weight != 1.0:
            adapter += f" at {self.lora_weight:g}"
        return f"{self.model}{adapter} at {self.width} x {self.height} for {self.instance}"

    def job_json(self) -> bytes:
        """Return the content of `job.json`, as `model_package/neuron` reads it."""
        lora = {"name": self.lora, "weight": self.lora_weight} if self.lora else None
        job = {
            "width": self.width,
            "height": self.height,
            "batch": 1,
            "instance": self.instance,
            "lora": lora,
        }
        return json.dumps(job, indent=1).encode()


@dataclass(frozen=True)
class Compiled:
    """A compiled model: `compiled.json`.

    Attributes:
        target: what it was compiled from.
        root: the prefix of its files.
        files: their sizes in bytes, by their paths below the root.
        compiler: the version of the compiler; empty if the job did not say.
        created: seconds since 1970.
        seconds: what AWS billed for the job.
    """

    target: Target
    root: str
    files: Mapping[str, int]
    compiler: str
    created: float
    seconds: float

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(self.files.values())

    def to_json(self) -> bytes:
        """Return the content of `compiled.json`."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Compiled:
        """Read `compiled.json`; fields of a newer version are left out.

        Raises:
            ValueError: if it is none.
        """
        try:
            data = json.loads(content)
            target = Target(**_known(Target, data.pop("target")))
            return cls(target=target, **_known(cls, data))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError("is not the record of a compiled model") from error


def _known(kind: type[Target] | type[Compiled], data: Mapping[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in data.items() if name in names}


# --- Keys -----------------------------------------------------------------------------------------


def code(digest: str) -> str:
    """Return the prefix of the compiler's program, by the digest of its files: 16 digits."""
    return f"{COMPILED}code/{_checked(_ID, digest)}/"


def of_model(model: str = "") -> str:
    """Return the prefix of a model's compilations; without a model, of all."""
    return f"{_MODELS}{_checked(_NAME, model)}/" if model else _MODELS


def folder(target: Target) -> str:
    """Return the prefix of everything of one compilation."""
    return f"{of_model(target.model)}{target.id}/"


def record(target: Target) -> str:
    """Return the key of `compiled.json`."""
    return f"{folder(target)}compiled.json"


def is_record(key: str) -> bool:
    """Whether a key is that of a `compiled.json`."""
    return bool(_RECORD.fullmatch(key))


def job_channel(target: Target) -> str:
    """Return the prefix of the channel `job`."""
    return f"{folder(target)}job/"


def job_file(target: Target) -> str:
    """Return the key of `job.json`."""
    return f"{job_channel(target)}job.json"


def lora_channel(target: Target) -> str:
    """Return the prefix of the channel `lora`."""
    return f"{folder(target)}lora/"


def lora_file(target: Target) -> str:
    """Return the key of the adapter's copy."""
    return f"{lora_channel(target)}{_checked(_NAME, target.lora or '')}.safetensors"


def checkpoints(target: Target) -> str:
    """Return the prefix that mirrors the job's checkpoints."""
    return f"{folder(target)}checkpoints/"


def progress(target: Target) -> str:
    """Return the key of `progress.jsonl`."""
    return f"{checkpoints(target)}progress.jsonl"


def output(target: Target) -> str:
    """Return the prefix of what jobs leave; SageMaker adds the job's name and `output/model/`."""
    return f"{folder(target)}output/"


def sagemaker_name(deployment: str, target: Target, attempt: int) -> str:
    """Return SageMaker's name of an attempt, counted from 1; at most 63 characters."""
    return f"{sagemaker_prefix(deployment)}{target.id[:12]}-{attempt}"


def sagemaker_prefix(deployment: str) -> str:
    """Return what the names of a deployment's compile jobs begin with."""
    return f"easel-{deployment}-compile-"


# --- Progress -------------------------------------------------------------------------------------


def newest(content: bytes) -> str:
    """Return how far a job is, in words, from its `progress.jsonl`; empty before its first line.

    Lines that are not whole, or not of this form, are passed over.
    """
    for line in reversed(content.decode(errors="replace").splitlines()):
        try:
            step = json.loads(line)
            stage = str(step["stage"])
            words = _STAGES.get(stage, stage)
            component, done, total = step.get("component"), step.get("done"), step.get("of")
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            continue
        text = f"{words} {component}" if component else words
        if isinstance(done, int) and isinstance(total, int):
            text += f", {done} of {total} done"
        return "".join(one for one in text if one.isprintable())[:_LONGEST_STAGE]
    return ""


def _checked(form: re.Pattern[str], text: str) -> str:
    if not form.fullmatch(text):
        raise ValueError(f"{text[:64]!r} cannot be a part of a key")
    return text
