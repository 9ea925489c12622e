"""Any server of OpenAI's images API.

The wire is https://platform.openai.com/docs/api-reference/images/create with base64 as the answer.
Only the prompt, the size and the format are in every such server. What else one takes is
configured, in the words of SGLang and vLLM-Omni, because servers tend to ignore fields that they do
not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .backend import MEDIA_TYPES, Abilities, Backend, Invocation, attributes
from .fields import GenerationRequest
from .openai_wire import openai_content, openai_picture, openai_report, with_both_sides

ACCEPTED = ("negative_prompt", "seed", "steps", "guidance_scale", "format")


@dataclass(frozen=True)
class OpenAIImages(Backend):
    """Answers with a picture in JSON.

    Attributes:
        accepts: the fields that the server takes besides prompt and size, of `ACCEPTED`.
    """

    name: ClassVar[str] = "openai-images"
    title: ClassVar[str] = "a server of OpenAI's images API"
    options: ClassVar[tuple[str, ...]] = ("accepts",)

    accepts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := [name for name in self.accepts if name not in ACCEPTED]:
            raise ValueError(f"accepts: {unknown[0]!r} is none of {', '.join(ACCEPTED)}")

    @property
    def abilities(self) -> Abilities:
        return Abilities(
            frozenset({"width", "height", *self.accepts} - {"format"}),
            formats=tuple(MEDIA_TYPES) if "format" in self.accepts else ("png",),
            raw=False,
            # Not every server compresses them.
            compressed=False,
        )

    @property
    def setting(self) -> str | dict[str, Any]:
        return {"name": self.name, "accepts": list(self.accepts)} if self.accepts else self.name

    def complete(
        self, request: GenerationRequest, defaults: Mapping[str, object]
    ) -> GenerationRequest:
        return with_both_sides(super().complete(request, defaults), defaults)

    def invocation(self, request: GenerationRequest, trace: str) -> Invocation:
        content = {
            **openai_content(request, self.accepts),
            # Some servers answer with a URL by default, which nobody but they can read.
            "response_format": "b64_json",
            # OpenAI's default is PNG, SGLang's is JPEG.
            "output_format": request.file_format,
        }
        return Invocation(json.dumps(content).encode(), "application/json", attributes(trace))

    def picture(self, body: bytes, media_type: str) -> bytes:
        return openai_picture(body, media_type)

    def report(self, status: int | None, text: str) -> dict[str, Any]:
        return openai_report(status, text)
