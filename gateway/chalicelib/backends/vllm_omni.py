r"""AWS's image of vLLM-Omni.

The wire is that of vllm-omni 0.26.0, `entrypoints/openai/protocol/images.py` and `api_server.py`,
behind the image's `omni_sagemaker_serve.py`, which finds the route in CustomAttributes with the
pattern `route=(/[^\s,]+)`. The server ignores fields that it does not know, and `model` is left
out, because any name but its own is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .backend import MEDIA_TYPES, OPTIONAL, Abilities, Backend, Invocation, attributes
from .fields import GenerationRequest, InvalidField, Number, Weighted, Whole
from .openai_wire import openai_content, openai_picture, openai_report, with_both_sides

# First, so that nothing in the trace is found before it.
ROUTE = "route=/v1/images/generations"
ADAPTERS = "/opt/ml/model/loras/"
# A path below that folder without hidden files, and so without "..".
_PATH = re.compile(re.escape(ADAPTERS) + r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][\w.-]*")
_GUIDANCE = Number("How closely the picture follows the prompt.", 0, 20)
# FLUX.2 klein and ERNIE-Image round other sizes down without a word, Z-Image fails.
_SIDES = {
    "width": Whole("Width in pixels.", 64, 1_536, 16),
    "height": Whole("Height in pixels.", 64, 1_536, 16),
}
# One adapter can be active.
_LORA = Weighted("The LoRA adapter that changes the model's style.", 1, -20, 20)


@dataclass(frozen=True)
class VllmOmni(Backend):
    """Answers with the picture itself, as a file.

    Attributes:
        adapters: the paths of LoRA adapters in the container, by the names that requests use.
    """

    name: ClassVar[str] = "vllm-omni"
    title: ClassVar[str] = "vLLM-Omni"
    options: ClassVar[tuple[str, ...]] = ("adapters",)

    adapters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, path in self.adapters.items():
            Weighted.name.clean(name)
            if not isinstance(path, str) or not _PATH.fullmatch(path):
                raise ValueError(f"adapters: the path of {name} must be below {ADAPTERS}")

    @property
    def abilities(self) -> Abilities:
        lora = {"lora": _LORA} if self.adapters else {}
        return Abilities(
            frozenset(OPTIONAL) - {"lora"} | set(lora),
            rules={"guidance_scale": _GUIDANCE, **_SIDES, **lora},
            # Its own default is 50 for FLUX.2 klein, Z-Image and others that need 4 or 9.
            required=frozenset({"steps"}),
            # Version 0.26 writes PNG files with compress_level 0, and has no switch for it.
            compressed=False,
        )

    @property
    def setting(self) -> str | dict[str, Any]:
        return {"name": self.name, "adapters": dict(self.adapters)} if self.adapters else self.name

    def check(self, request: GenerationRequest) -> None:
        super().check(request)
        for name, _ in _LORA.pairs(request.lora):
            if name not in self.adapters:
                names = ", ".join(self.adapters)
                reason = f"{name} is not an adapter of the model {request.model}; there are {names}"
                raise InvalidField("lora", reason)

    def complete(
        self, request: GenerationRequest, defaults: Mapping[str, object]
    ) -> GenerationRequest:
        return with_both_sides(super().complete(request, defaults), defaults)

    def invocation(self, request: GenerationRequest, trace: str) -> Invocation:
        file_format = request.file_format
        content = {
            **openai_content(request, OPTIONAL),
            # The picture itself instead of JSON: no base64, and it may be asynchronous.
            "response_format": "file",
            "output_format": file_format,
        }
        for name, weight in _LORA.pairs(request.lora):
            # The server takes any path, so that it is never the caller's.
            content["lora"] = {"name": name, "path": self.adapters[name], "scale": weight}
        text = attributes(ROUTE, trace)
        return Invocation(json.dumps(content).encode(), MEDIA_TYPES[file_format], text)

    def picture(self, body: bytes, media_type: str) -> bytes:
        # A version without "file" answers with JSON.
        is_json = media_type.startswith("application/json")
        return openai_picture(body, media_type) if is_json else body

    def report(self, status: int | None, text: str) -> dict[str, Any]:
        return openai_report(status, text)
