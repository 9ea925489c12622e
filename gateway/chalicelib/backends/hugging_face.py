"""The default handler of Hugging Face's image, with HF_TASK=text-to-image.

The wire is that of sagemaker-huggingface-inference-toolkit 2.6.0, `diffusers_utils.py`,
`decoder_encoder.py` and `handler_service.py`: a prompt, and arguments of the pipeline. A seed would
be a torch.Generator, which JSON cannot hold. The number of pictures is always one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from .answers import decoded, json_of
from .backend import MEDIA_TYPES, WORDS, Abilities, Backend, Invocation, attributes, words
from .fields import GenerationRequest
from .pipeline import pipeline_report

_FIELDS = frozenset(WORDS) - {"seed"}


@dataclass(frozen=True)
class HuggingFace(Backend):
    """Answers with the picture itself, in the media type that is asked for."""

    name: ClassVar[str] = "hugging-face"
    title: ClassVar[str] = "Hugging Face's default handler"

    @property
    def abilities(self) -> Abilities:
        return Abilities(_FIELDS)

    def invocation(self, request: GenerationRequest, trace: str) -> Invocation:
        content = {"inputs": request.prompt, "parameters": words(request, sorted(_FIELDS))}
        accept = MEDIA_TYPES[request.file_format]
        return Invocation(json.dumps(content).encode(), accept, attributes(trace))

    def picture(self, body: bytes, media_type: str) -> bytes:
        # A handler that does not know the media type of pictures answers with a JSON string.
        return decoded(json_of(body)) if media_type.startswith("application/json") else body

    def report(self, status: int | None, text: str) -> dict[str, Any]:  # noqa: ARG002 - says nothing
        return pipeline_report(text)
