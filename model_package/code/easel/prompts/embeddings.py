"""Prompt and negative prompt as the embeddings that a pipeline is called with.

Only for UNet pipelines whose text encoders are CLIP's: Stable Diffusion 1 and 2, SDXL and its
refiner. For any other, `Conditioner.of` is None, and the pipeline gets the prompt as it is typed.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from typing import Any

import torch

from easel.prompts.text_encoder import Embedding, TextEncoder
from easel.prompts.weights import parse

# Of embeddings, on the model's device. In 16 bits a prompt of SDXL takes 0.3 MB, of SD 1.5 0.1.
KEPT_BYTES = 64 * 2**20
_CLIP = {"CLIPTextModel", "CLIPTextModelWithProjection"}

Texts = dict[str, torch.Tensor]


class Conditioner:
    """Encodes prompts for one pipeline; keeps the latest.

    Prompts and negative prompts are kept each by itself: people change the one and leave the other.
    """

    def __init__(
        self,
        encoders: list[TextEncoder],
        *,
        pooled: bool,
        zeros: bool,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._encoders = encoders
        self._pooled = pooled
        self._zeros = zeros
        self._kept: OrderedDict[tuple[str, str], list[Embedding]] = OrderedDict()
        self._room = kept_bytes

    @classmethod
    def of(cls, pipeline: Any, *, kept_bytes: int = KEPT_BYTES) -> Conditioner | None:
        """Return the conditioner for a pipeline, or None if it is not for this module.

        Args:
            pipeline: any.
            kept_bytes: how large the kept embeddings may be, all together; 0 keeps none.
        """
        pairs = _clip_pairs(pipeline)
        parameters = inspect.signature(pipeline.__call__).parameters
        if not pairs or not {"prompt_embeds", "negative_prompt_embeds"} <= set(parameters):
            return None
        pooled = "pooled_prompt_embeds" in parameters
        encoders = [TextEncoder(*pair, penultimate=pooled) for pair in pairs]
        zeros = bool(pipeline.config.get("force_zeros_for_empty_prompt", False))
        return cls(encoders, pooled=pooled, zeros=pooled and zeros, kept_bytes=kept_bytes)

    def embed(self, prompt: str, negative_prompt: str | None, *, guided: bool, state: str) -> Texts:
        """Return the pipeline's keyword arguments that replace its prompts.

        Args:
            prompt: what the picture shows, with weights.
            negative_prompt: what it should not show; empty is the same as None.
            guided: whether the pipeline will use the negative prompt.
            state: what else the encoders' numbers depend on: the LoRA adapters.
        """
        with torch.no_grad():
            return self._embed(prompt, negative_prompt or "", guided=guided, state=state)

    def _embed(self, prompt: str, negative_prompt: str, *, guided: bool, state: str) -> Texts:
        wanted = {"": prompt}
        if guided and (negative_prompt or not self._zeros):
            wanted["negative_"] = negative_prompt
        found = {sign: self._encode(text, state) for sign, text in wanted.items()}
        longest = max(each.hidden.shape[1] for embeddings in found.values() for each in embeddings)
        texts = {}
        for sign, embeddings in found.items():
            texts[f"{sign}prompt_embeds"] = self._join(embeddings, longest, state)
            if self._pooled:
                texts[f"{sign}pooled_prompt_embeds"] = _pooled(embeddings)
        if guided and "negative_" not in wanted:
            texts |= {f"negative_{name}": torch.zeros_like(texts[name]) for name in texts}
        return texts

    def _encode(self, text: str, state: str) -> list[Embedding]:
        """Return each encoder's embedding of a text, from memory if it was asked for lately."""
        key = (text, state)
        if key not in self._kept:
            fragments = parse(text)
            self._kept[key] = [encoder.encode(fragments) for encoder in self._encoders]
        self._kept.move_to_end(key)
        found = self._kept[key]
        while self._kept and sum(map(_size, self._kept.values())) > self._room:
            self._kept.popitem(last=False)
        return found

    def _join(self, embeddings: list[Embedding], length: int, state: str) -> torch.Tensor:
        """Lengthen all embeddings to one length by chunks of the empty prompt, and join them."""
        padded = [each.hidden for each in embeddings]
        if any(each.shape[1] != length for each in padded):
            empty = self._encode("", state)
            padded = [
                _pad(each, length, chunk.hidden) for each, chunk in zip(padded, empty, strict=True)
            ]
        return torch.cat(padded, dim=-1) if len(padded) > 1 else padded[0]


def _pad(hidden: torch.Tensor, length: int, chunk: torch.Tensor) -> torch.Tensor:
    return torch.cat([hidden, *[chunk] * ((length - hidden.shape[1]) // chunk.shape[1])], dim=1)


def _size(embeddings: list[Embedding]) -> int:
    tensors = [each for embedding in embeddings for each in (embedding.hidden, embedding.pooled)]
    return sum(each.numel() * each.element_size() for each in tensors if each is not None)


def _pooled(embeddings: list[Embedding]) -> torch.Tensor:
    """Return the last encoder's pooled embedding, which SDXL takes beside the others."""
    (pooled,) = [each.pooled for each in embeddings if each.pooled is not None]
    return pooled


def _clip_pairs(pipeline: Any) -> list[tuple[Any, Any]]:
    """Return tokenizers with their encoders; none if anything is not as in SD or SDXL."""
    parts: dict[str, Any] = getattr(pipeline, "components", {})
    encoders = {name: part for name, part in parts.items() if name.startswith("text_encoder")}
    pairs = [
        (parts.get(name.replace("text_encoder", "tokenizer")), encoder)
        for name, encoder in sorted(encoders.items())
        if encoder is not None
    ]
    width = sum(encoder.config.hidden_size for _, encoder in pairs if _is_clip(encoder))
    unet = parts.get("unet")
    attends = getattr(getattr(unet, "config", None), "cross_attention_dim", None)
    known = all(tokenizer is not None and _is_clip(encoder) for tokenizer, encoder in pairs)
    return pairs if known and attends == width else []


def _is_clip(encoder: Any) -> bool:
    return type(encoder).__name__ in _CLIP
