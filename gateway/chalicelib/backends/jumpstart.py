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
        accepts: the fields that the model takes besides the prompt, of `WORDS`; a model refuses
            every other one.
    """

    name: ClassVar[str] = "jumpstart"
    title: ClassVar[str] = "JumpStart's Stable Diffusion"
    options: ClassVar[tuple[str, ...]] = ("accept_eula", "accepts")

    accept_eula: bool = False
    accepts: tuple[str, ...] = tuple(WORDS)

    def __post_init__(self) -> None:
        if unknown := [name for name in self.accepts if name not in WORDS]:
            raise ValueError(f"accepts: {unknown[0]!r} is none of {', '.join(WORDS)}")

    @property
    def abilities(self) -> Abilities:
        return Abilities(frozenset(self.accepts), formats=("jpeg",), raw=False)

    @property
    def setting(self) -> str | dict[str, Any]:
        options: dict[str, Any] = {"accept_eula": True} if self.accept_eula else {}
        if set(self.accepts) != set(WORDS):
            options["accepts"] = list(self.accepts)
        return {"name": self.name, **options} if options else self.name

    def invocation(self, request: GenerationRequest, trace: str) -> Invocation:
        fields = words(request, self.accepts)
        content = {"prompt": request.prompt, "num_images_per_prompt": 1, **fields}
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
