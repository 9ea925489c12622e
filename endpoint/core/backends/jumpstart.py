"""The Stable Diffusion models of SageMaker JumpStart.

The wire is that of AWS's notebooks "Introduction to JumpStart - Text to Image": flat JSON, and with
the media type `application/json;jpeg` a list of JPEG files in base64. Without that, the answer is
nested lists of pixels, too large to be returned.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from .answers import decoded, first_of, json_of
from .backend import WORDS, Abilities, Backend, BadAnswer, Invocation, attributes, words
from .fields import GenerationRequest
from .pipeline import pipeline_report

_ACCEPT = "application/json;jpeg"


@dataclass(frozen=True)
class JumpStart(Backend):
    """Answers with JPEG files in JSON.

    Attributes:
        accept_eula: whether the owner of the account has accepted the licence of a gated model.
    """

    name: ClassVar[str] = "jumpstart"
    title: ClassVar[str] = "JumpStart's Stable Diffusion"
    options: ClassVar[tuple[str, ...]] = ("accept_eula",)

    accept_eula: bool = False

    @property
    def abilities(self) -> Abilities:
        return Abilities(frozenset(WORDS), formats=("jpeg",), raw=False)

    @property
    def setting(self) -> str | dict[str, Any]:
        return {"name": self.name, "accept_eula": True} if self.accept_eula else self.name

    def invocation(self, request: GenerationRequest, trace: str) -> Invocation:
        content = {"prompt": request.prompt, "num_images_per_prompt": 1, **words(request, WORDS)}
        # How a gated model parses the header is not published: it gets exactly what AWS documents.
        text = "accept_eula=true" if self.accept_eula else attributes(trace)
        return Invocation(json.dumps(content).encode(), _ACCEPT, text)

    def picture(self, body: bytes, media_type: str) -> bytes:  # noqa: ARG002 - there is one
        first = first_of(json_of(body), "generated_images")
        if isinstance(first, list):
            raise BadAnswer(f"lists of pixels instead of the {_ACCEPT} that was asked for")
        return decoded(first)

    def report(self, status: int | None, text: str) -> dict[str, Any]:  # noqa: ARG002 - says nothing
        return pipeline_report(text)
