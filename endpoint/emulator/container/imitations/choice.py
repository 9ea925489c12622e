"""Which backend a model's container is, by its image, its environment and its model data."""

from __future__ import annotations

import re
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Protocol

from endpoint.emulator.container.default_script import TASK
from endpoint.emulator.container.imitations.hugging_face import HuggingFace
from endpoint.emulator.container.imitations.image_names import is_vllm_omni, repository_and_tag
from endpoint.emulator.container.imitations.images import Generate
from endpoint.emulator.container.imitations.jumpstart import JumpStart
from endpoint.emulator.container.imitations.vllm_omni import VllmOmni
from endpoint.emulator.container.toolkit import Response

# Where JumpStart keeps its models; those whose licence has to be accepted are in the second.
_JUMPSTART = re.compile(r"s3://jumpstart-(cache|private-cache)-prod-[a-z0-9-]+/")
_GATED = "private-cache"


class Imitation(Protocol):
    """Answers the invocations of one container."""

    def answer(self, headers: Mapping[str, str], body: bytes) -> Response:
        """Respond to `POST /invocations`."""


@dataclass(frozen=True)
class Definition:
    """A model as CreateModel got it.

    Attributes:
        image: the address of its container's image.
        environment: its variables.
        model_data: where its model data are in S3.
    """

    image: str
    environment: Mapping[str, str]
    model_data: str | None = None


class Imitations:
    """The imitated containers of an account's endpoints, made when they are first needed.

    Attributes:
        images_from: makes their images; without it nothing is imitated.
    """

    def __init__(self, images_from: Generate | None = None) -> None:
        self.images_from = images_from
        self._lock = threading.Lock()
        self._made: dict[Hashable, tuple[Definition, Generate, Imitation | None]] = {}

    def find(self, endpoint: Hashable, definition: Definition) -> Imitation | None:
        """Return the container of an endpoint; None if it is none of another backend."""
        generate = self.images_from
        if generate is None:
            return None
        with self._lock:
            made = self._made.get(endpoint)
            # An update of the endpoint, or a test, may have replaced them.
            if made is None or made[:2] != (definition, generate):
                made = definition, generate, choose(definition, generate)
                self._made[endpoint] = made
        return made[2]


def choose(definition: Definition, generate: Generate) -> Imitation | None:
    """Return the imitation of a model's container; None for one that is not imitated."""
    model_data, environment = definition.model_data, definition.environment
    if is_vllm_omni(definition.image):
        return VllmOmni(generate, environment, has_model_data=model_data is not None)
    if repository_and_tag(definition.image)[0] != "huggingface-pytorch-inference":
        return None
    jumpstart = _JUMPSTART.match(model_data or "")
    if jumpstart:
        return JumpStart(generate, gated=jumpstart[1] == _GATED)
    if environment.get("HF_TASK") == TASK and not environment.get("SAGEMAKER_PROGRAM"):
        return HuggingFace(generate)
    return None
