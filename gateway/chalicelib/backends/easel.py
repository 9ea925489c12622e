"""Easel's own container, on GPUs and on Inferentia2: the contract as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .answers import objects_in
from .backend import MEDIA_TYPES, OPTIONAL, Abilities, Backend, Invocation
from .fields import GenerationRequest

_ABILITIES = Abilities(frozenset(OPTIONAL))


@dataclass(frozen=True)
class Easel(Backend):
    """Answers with the picture itself; its errors have Easel's own words already."""

    name: ClassVar[str] = "easel"
    title: ClassVar[str] = "Easel's own container"

    @property
    def abilities(self) -> Abilities:
        return _ABILITIES

    def complete(
        self,
        request: GenerationRequest,
        defaults: Mapping[str, object],  # noqa: ARG002 - see below
    ) -> GenerationRequest:
        # The container applies the model's defaults itself.
        return super().complete(request, {})

    def invocation(self, request: GenerationRequest, trace: str) -> Invocation:
        body = json.dumps(request.to_dict()).encode()
        # The serving container labels its response with this very string.
        return Invocation(body, MEDIA_TYPES[request.file_format], trace)

    def picture(self, body: bytes, media_type: str) -> bytes:  # noqa: ARG002 - there is one
        return body

    def report(self, status: int | None, text: str) -> dict[str, Any]:  # noqa: ARG002 - says nothing
        for answer in objects_in(text, '"error"'):
            if isinstance(answer["error"], dict):
                return dict(answer["error"])
        return {}
