"""The images of `images.json`: what each contains, and what is known to be wrong with it.

Those with the scope `training` are for training jobs; the others serve.

To add an image, add an entry to that file; the tests check every entry. One that AWS publishes has
`lookup`, the arguments that find its registry in the SageMaker SDK; any other has a `uri`. `digest`
pins it: AWS rebuilds its images under the same tag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from endpoint.core.problems import BadArgument

_FILE = Path(__file__).with_name("images.json")
DEFAULT = "huggingface-5.5.3"
TRAINING = "training-5.3.0"
INFERENTIA = "neuron-2.26"
# Its name as well, whichever it is.
AWS = "aws"
# A URI has a slash.
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
# SageMaker's default machine images have older drivers, which containers with a newer CUDA refuse:
# https://docs.aws.amazon.com/sagemaker/latest/dg/inference-gpu-drivers.html
_NEWEST_CUDA = (12, 8)
_SOON_DAYS = 90
AMI_OF_NEWER_CUDA = "al2-ami-sagemaker-inference-gpu-3-1"
# CUDA 13 requires the driver 580, which this one alone has: botocore's model of ProductionVariant.
AMI_OF_CUDA_13 = "al2023-ami-sagemaker-inference-gpu-4-1"
# Without it, containers get Neuron's driver 2.10, which fails:
# https://github.com/awslabs/llm-hosting-container/pull/156
AMI_OF_NEURON = "al2-ami-sagemaker-inference-neuron-2"
_CUDA_OF_TAG = re.compile(r"(?:^|[-_.])cu(\d{2})(\d)(?:[-_.]|$)")


@dataclass(frozen=True)
class Trouble:
    """A known fault of an image.

    Attributes:
        finding: what is wrong.
        advice: what to do about it.
        source: where it was published.
    """

    finding: str
    advice: str
    source: str


@dataclass(frozen=True)
class KnownImage:
    """A serving image of the catalogue.

    Attributes:
        name: the name for --image.
        title: the name in messages.
        uri: its URI; None for an image of AWS, whose registry depends on the region.
        lookup: the arguments that find an image of AWS in the SageMaker SDK.
        repository: its repository in ECR.
        tag: its tag.
        digest: `sha256:` and 64 digits, which take the place of the tag; None if not pinned.
        torch: the version of torch in it; None if AWS does not publish it. Likewise diffusers.
        cuda: the version of CUDA in it; None for Inferentia.
        neuron: the version of the Neuron SDK; empty for GPUs.
        inference_ami: the InferenceAmiVersion that it requires; None for SageMaker's default.
        support_ends: the day after which it receives no more patches, if there is one.
        support_source: where that day was published.
        trouble: what is known to be wrong with it.
        ray_serve: whether it serves an application of Ray Serve, and not inference.py.
        backends: which backends of `core/backends` can run in it.
        scope: inference or training.
    """

    name: str
    title: str
    uri: str | None
    lookup: dict[str, str]
    repository: str
    tag: str
    digest: str | None
    torch: str | None
    cuda: str | None
    diffusers: str | None
    inference_ami: str | None
    support_ends: date | None
    support_source: str
    trouble: tuple[Trouble, ...]
    ray_serve: bool = False
    backends: tuple[str, ...] = ("easel",)
    scope: str = "inference"
    neuron: str = ""

    @property
    def content(self) -> str:
        """The versions of what is in it, in words."""
        versions = {
            "torch": self.torch,
            "Neuron SDK": self.neuron,
            "CUDA": self.cuda,
            "diffusers": self.diffusers,
        }
        return ", ".join(f"{name} {version}" for name, version in versions.items() if version)

    def pinned(self, uri: str) -> str:
        """Return the URI with the digest, if there is one, in place of the tag."""
        return f"{uri.rpartition(':')[0]}@{self.digest}" if self.digest else uri

    def known_trouble(self, today: date) -> Iterator[Trouble]:
        """Yield what is wrong with the image, and that its support has ended or ends soon."""
        yield from self.trouble
        if self.support_ends and (self.support_ends - today).days < _SOON_DAYS:
            ended = self.support_ends < today
            yield Trouble(
                f"its support {'ended' if ended else 'ends'} on {self.support_ends}",
                "It receives no security patches after that day.",
                self.support_source,
            )


@cache
def _read() -> tuple[KnownImage, ...]:
    entries = json.loads(_FILE.read_text("utf-8"))
    return tuple(_image(name, entry) for name, entry in entries.items())


def read(scope: str = "inference") -> dict[str, KnownImage]:
    """Return the images for serving, or for training, by name."""
    return {image.name: image for image in _read() if image.scope == scope}


def _image(name: str, entry: dict[str, Any]) -> KnownImage:
    support = entry["support_ends"] or {"date": None, "source": ""}
    return KnownImage(
        name=name,
        title=entry["title"],
        uri=entry.get("uri"),
        lookup=entry.get("lookup", {}),
        repository=entry["repository"],
        tag=entry["tag"],
        digest=entry["digest"],
        torch=entry["torch"],
        cuda=entry["cuda"],
        diffusers=entry["diffusers"],
        inference_ami=entry["inference_ami"],
        support_ends=date.fromisoformat(support["date"]) if support["date"] else None,
        support_source=support["source"],
        trouble=tuple(Trouble(**trouble) for trouble in entry["trouble"]),
        ray_serve=entry.get("ray_serve", False),
        backends=tuple(entry.get("backends", ["easel"])),
        scope=entry.get("scope", "inference"),
        neuron=entry.get("neuron", ""),
    )


def by_name(name: str, scope: str = "inference") -> KnownImage | None:
    """Return the image with this name, or None if the text is no name but a URI.

    Raises:
        BadArgument: if it is neither.
    """
    if not _NAME.fullmatch(name):
        return None
    name = (TRAINING if scope == "training" else DEFAULT) if name == AWS else name
    if name not in read(scope):
        raise BadArgument(
            f"{name!r} is neither a known image nor a URI.",
            f"Known images are aws and {', '.join(read(scope))}; a URI has the form"
            " <account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>.",
        )
    return read(scope)[name]


def for_backend(backend: str) -> KnownImage:
    """Return the image that serves with a backend other than Easel's own, by default."""
    return next(image for image in read().values() if backend in image.backends)


def by_content(repository: str, tag: str | None, digest: str | None) -> KnownImage | None:
    """Return what is known about an image that was given by its URI."""
    for image in _read():
        if image.repository == repository and (
            (tag is not None and image.tag == tag)
            or (digest is not None and image.digest == digest)
        ):
            return image
    return None


def needed_ami(tag: str | None) -> str | None:
    """Return the InferenceAmiVersion that an image requires, as far as its tag tells."""
    if "neuronx" in (tag or ""):
        return AMI_OF_NEURON
    match = _CUDA_OF_TAG.search(tag or "")
    if match and int(match[1]) >= 13:
        return AMI_OF_CUDA_13
    if match and (int(match[1]), int(match[2])) > _NEWEST_CUDA:
        return AMI_OF_NEWER_CUDA
    return None
