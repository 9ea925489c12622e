"""Prompt and negative prompt as the embeddings that replace them in a pipeline's call.

Only for UNet pipelines with CLIP text encoders: Stable Diffusion 1 and 2, SDXL and its refiner. For
any other, `PromptEncoder.of` returns None and the pipeline gets the prompt text itself.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from typing import Any

import torch

from easel.prompts.prompt_weights import parse
from easel.prompts.text_encoder import CannotEncode, Embedding, TextEncoder
from generation import InvalidField

# Of cached embeddings, on the model's device. In 16 bits a prompt takes 0.3 MB for SDXL and 0.1 MB
# for SD 1.5.
KEPT_BYTES = 64 * 2**20
# The last one is optimum-neuron's, for an encoder that is compiled.
_CLIP = {"CLIPTextModel", "CLIPTextModelWithProjection", "NeuronModelTextEncoder"}

Arguments = dict[str, torch.Tensor]


class PromptEncoder:
    """Encodes prompts for one pipeline, with a cache of the latest.

    Prompts and negative prompts are separate entries, because often only one of the two changes.
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
    def of(cls, pipeline: Any, *, kept_bytes: int = KEPT_BYTES) -> PromptEncoder | None:
        """Return the encoder for a pipeline, or None if the pipeline is not supported.

        Args:
            pipeline: any diffusers pipeline.
            kept_bytes: the size of the cache; 0 caches nothing.
        """
        pairs = _clip_pairs(pipeline)
        parameters = inspect.signature(pipeline.__call__).parameters
        # The pipeline must accept embeddings instead of a prompt.
        if not pairs or not {"prompt_embeds", "negative_prompt_embeds"} <= set(parameters):
            return None
        pooled = "pooled_prompt_embeds" in parameters
        encoders = [TextEncoder(*pair, penultimate=pooled) for pair in pairs]
        zeros = bool(pipeline.config.get("force_zeros_for_empty_prompt", False))
        return cls(encoders, pooled=pooled, zeros=pooled and zeros, kept_bytes=kept_bytes)

    def embed(
        self, prompt: str, negative_prompt: str | None, *, guided: bool, state: str
    ) -> Arguments:
        """Return the pipeline's keyword arguments that replace its prompts.

        Args:
            prompt: what the image shows, with weights.
            negative_prompt: what it should not show; empty is the same as None.
            guided: whether the pipeline will use the negative prompt.
            state: what else the embeddings depend on: the LoRA adapters.

        Raises:
            InvalidField: naming the prompt that a compiled encoder cannot encode.
        """
        with torch.no_grad():
            return self._embed(prompt, negative_prompt or "", guided=guided, state=state)

    def _embed(self, prompt: str, negative_prompt: str, *, guided: bool, state: str) -> Arguments:
        # The keys are the prefixes of the pipeline's argument names.
        texts = {"": prompt}
        if guided and (negative_prompt or not self._zeros):
            texts["negative_"] = negative_prompt
        encoded = {}
        for prefix, text in texts.items():
            try:
                encoded[prefix] = self._encode(text, state)
            except CannotEncode as error:
                raise InvalidField(f"{prefix}prompt", str(error)) from error
        longest = max(one.hidden.shape[1] for embeddings in encoded.values() for one in embeddings)
        arguments = {}
        for prefix, embeddings in encoded.items():
            # Guidance runs both prompts in one batch, so both need the same length.
            arguments[f"{prefix}prompt_embeds"] = self._join(embeddings, longest, state)
            if self._pooled:
                arguments[f"{prefix}pooled_prompt_embeds"] = _pooled(embeddings)
        if guided and "negative_" not in texts:
            zeros = {f"negative_{name}": torch.zeros_like(arguments[name]) for name in arguments}
            arguments |= zeros
        return arguments

    def _encode(self, text: str, state: str) -> list[Embedding]:
        """Return each encoder's embedding of a text, from the cache if it is there."""
        key = (text, state)
        if key not in self._kept:
            fragments = parse(text)
            self._kept[key] = [encoder.encode(fragments) for encoder in self._encoders]
        self._kept.move_to_end(key)
        embeddings = self._kept[key]  # before the eviction, which can remove even this entry
        while self._kept and sum(map(_size, self._kept.values())) > self._room:
            self._kept.popitem(last=False)
        return embeddings

    def _join(self, embeddings: list[Embedding], length: int, state: str) -> torch.Tensor:
        """Pad all embeddings to one length with chunks of the empty prompt, and join them."""
        padded = [embedding.hidden for embedding in embeddings]
        if any(hidden.shape[1] != length for hidden in padded):
            empty = self._encode("", state)
            padded = [
                _pad(hidden, length, chunk.hidden)
                for hidden, chunk in zip(padded, empty, strict=True)
            ]
        return torch.cat(padded, dim=-1) if len(padded) > 1 else padded[0]


def _pad(hidden: torch.Tensor, length: int, chunk: torch.Tensor) -> torch.Tensor:
    return torch.cat([hidden, *[chunk] * ((length - hidden.shape[1]) // chunk.shape[1])], dim=1)


def _size(embeddings: list[Embedding]) -> int:
    tensors = [tensor for one in embeddings for tensor in (one.hidden, one.pooled)]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _pooled(embeddings: list[Embedding]) -> torch.Tensor:
    """Return the pooled embedding of the one encoder that has it, which SDXL also takes."""
    (pooled,) = [embedding.pooled for embedding in embeddings if embedding.pooled is not None]
    return pooled


def _clip_pairs(pipeline: Any) -> list[tuple[Any, Any]]:
    """Return tokenizers with their encoders; empty if the pipeline is not like SD or SDXL."""
    parts: dict[str, Any] = getattr(pipeline, "components", {})
    encoders = {name: part for name, part in parts.items() if name.startswith("text_encoder")}
    pairs = [
        (parts.get(name.replace("text_encoder", "tokenizer")), encoder)
        for name, encoder in sorted(encoders.items())
        if encoder is not None
    ]
    width = sum(encoder.config.hidden_size for _, encoder in pairs if _is_clip(encoder))
    unet = parts.get("unet")
    attention_width = getattr(getattr(unet, "config", None), "cross_attention_dim", None)
    supported = all(tokenizer is not None and _is_clip(encoder) for tokenizer, encoder in pairs)
    return pairs if supported and attention_width == width else []


def _is_clip(encoder: Any) -> bool:
    return type(encoder).__name__ in _CLIP
