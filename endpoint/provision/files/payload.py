"""The files of an endpoint below one S3 prefix: its code, and its weights if requested.

The prefix contains a hash of the files' content. So a file that exists there is the right one, and
an interrupted upload continues where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from endpoint.aws.bucket import Bucket
from endpoint.core.naming import digest
from endpoint.core.problems import ScriptError

_PACKAGE = Path(__file__).parents[3] / "model_package"
CODE = _PACKAGE / "code"
# What the gateway and the containers store: results, counters of links, records of usage, training
# jobs and pictures for them, batches, compilations; and the image's sources, which other programs
# can upload too.
_MANAGED = (
    "jobs/",
    "pictures/",
    "links/",
    "usage/",
    "spend/",
    "image/",
    "training/",
    "datasets/",
    "batches/",
    "files/",
    "compiled/",
)
_MOST_LISTED = 20
# Tests, caches and editors' files stay here. So does bytecode: each serving image has a Python of
# its own, and compiling all of this code takes less than a hundredth of a start (docs/speed.md).
_CODE_SUFFIXES = {".py", ".json", ".txt"}


@dataclass(frozen=True)
class File:
    """A local file, and its path below the prefix."""

    path: Path
    place: str
    size: int
    sha256: str

    @classmethod
    def read(cls, path: Path, place: str) -> File:
        """Describe a file; reads all of it once."""
        with path.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        return cls(path, place, path.stat().st_size, content)


def code_files(folder: Path | None = None) -> list[File]:
    """Return the files of the serving code, those in subfolders included; places are below `code/`.

    Args:
        folder: the code; this repository's by default.

    Raises:
        ScriptError: if the folder has no inference.py.
    """
    folder = folder or CODE
    if not (folder / "inference.py").is_file():
        raise ScriptError(f"{folder} has no inference.py.")
    return [
        File.read(path, f"code/{path.relative_to(folder).as_posix()}")
        for path in sorted(folder.rglob("*"))
        if path.suffix in _CODE_SUFFIXES and "__pycache__" not in path.parts and path.is_file()
    ]


def ray_serve_files() -> list[File]:
    """Return what a Ray Serve image needs besides `code_files`: its application, and the server.

    https://aws.github.io/deep-learning-containers/ray/deployment/sagemaker/
    """
    application, server = _PACKAGE / "ray_serve", _PACKAGE / "server"
    places = {
        "config.yaml": application / "config.yaml",
        "deployment.py": application / "deployment.py",
        "code/requirements.txt": application / "requirements.txt",
        **{
            f"server/{path.relative_to(server).as_posix()}": path
            for path in sorted(server.rglob("*"))
            if path.suffix in {".py", ".html"}
        },
    }
    return [File.read(path, place) for place, path in places.items()]


def prefix_of(model: str, files: list[File], compiled: str = "") -> str:
    """Return the prefix for exactly these files: `models/<model>/<hash>/`.

    Args:
        model: its name.
        files: the local ones.
        compiled: what else belongs to them, as a text that stands for its content.
    """
    # Sorted, so that the order of the files does not change the hash.
    content = sorted([file.place, file.sha256] for file in files)
    content += [[compiled]] if compiled else []
    return f"models/{model}/{digest(content)}/"


def ensure_code(bucket: Bucket, prefix: str, files: list[File]) -> None:
    """Upload the code files that the bucket does not have yet."""
    stored = bucket.sizes(prefix)
    for file in files:
        # The size suffices: the prefix already stands for the content, so a difference means that
        # the upload did not finish.
        if stored.get(prefix + file.place) != file.size:
            bucket.put(prefix + file.place, file.path.read_bytes())


def manifest_key(prefix: str) -> str:
    """Return the key of the list of a prefix's files; the list is written after the last file."""
    return f"manifests/{prefix.removeprefix('models/').rstrip('/')}.json"


def description_key(model: str, sagemaker_model: str) -> str:
    """Return the key of what a model says about itself.

    Not below `prefix_of`, because it also depends on the container's settings, which the name of
    the SageMaker model stands for.
    """
    return f"descriptions/{model}/{sagemaker_model}.json"


def adapters_prefix(model: str) -> str:
    """Return the prefix of a model's LoRA adapters, which every version of its endpoint reads."""
    return f"loras/{model}/"


def ensure_adapters(bucket: Bucket, model: str) -> None:
    """Store a note below the prefix of the adapters, for whoever looks where they belong."""
    key = f"{adapters_prefix(model)}README.txt"
    note = _NOTE.format(model=model).encode()
    if bucket.sizes(key).get(key) != len(note):
        bucket.put(key, note)


_NOTE = """\
LoRA adapters of the model {model}: put .safetensors files here, next to this file.

A new file can be used at once by its name; a replaced or deleted one takes ten seconds. Nothing
has to be started again. Easel does not delete these files.
"""


@dataclass(frozen=True)
class Stored:
    """Keys in a bucket.

    Attributes:
        bucket: its name.
        own: of objects that Easel stored.
        others: of objects that somebody else stored, or replaced.
    """

    bucket: str
    own: list[str]
    others: list[str]

    def lines(self) -> list[str]:
        """Return what is kept, in lines of text."""
        return lines([self])


def lines(buckets: Sequence[Stored]) -> list[str]:
    """Return what is kept of buckets, in lines of text."""
    others = [f"s3://{stored.bucket}/{key}" for stored in buckets for key in stored.others]
    shown = [f"  {address}" for address in others[:_MOST_LISTED]]
    if len(others) > len(shown):
        shown.append(f"  and {len(others) - len(shown)} more")
    return ["Kept, because Easel did not upload it:", *shown] if shown else []


def superseded(bucket: Bucket, model: str, prefix: str, sagemaker_model: str) -> Stored:
    """Return the keys of the model's other versions: files, manifests and descriptions."""
    objects = [item for place in _of_versions(model) for item in bucket.sizes(place).items()]
    current = (prefix, manifest_key(prefix), description_key(model, sagemaker_model))
    others = {key: size for key, size in objects if not key.startswith(current)}
    return _stored(bucket, others)


def _of_versions(model: str) -> tuple[str, ...]:
    return f"models/{model}/", f"manifests/{model}/", f"descriptions/{model}/"


def of_model(bucket: Bucket, model: str) -> Stored:
    """Return the keys of all of a model's files, its adapters included."""
    places = (*_of_versions(model), adapters_prefix(model))
    return _stored(bucket, {key: size for at in places for key, size in bucket.sizes(at).items()})


def everything(bucket: Bucket) -> Stored:
    """Return the keys of all objects in the bucket.

    Adapters that were trained here are Easel's; those that somebody put there are not.
    """
    sizes = bucket.sizes()
    stored = _stored(bucket, sizes)
    trained = {key for key in stored.others if _claim_of(key) in sizes}
    others = [key for key in stored.others if key not in trained]
    return Stored(bucket.name, [*stored.own, *sorted(trained)], others)


def trained(bucket: Bucket) -> list[str]:
    """Return the keys of the adapters that were trained here."""
    sizes = bucket.sizes("loras/")
    claims = bucket.sizes("training/names/") if sizes else {}
    return [key for key in sizes if _claim_of(key) in claims]


def _claim_of(adapter: str) -> str:
    """Return the key of the claim that an adapter's name has, if it was trained."""
    stem = adapter.removeprefix("loras/").removesuffix(".safetensors")
    return f"training/names/{stem}.json"


def _stored(bucket: Bucket, sizes: Mapping[str, int]) -> Stored:
    stored = Stored(bucket.name, [], [])
    for key in sizes:
        # An empty object whose name ends in a slash is what the S3 console makes of a folder.
        own = key.startswith(_MANAGED) or (key.endswith("/") and not sizes[key])
        (stored.own if own or bucket.has_mark(key) else stored.others).append(key)
    return stored
