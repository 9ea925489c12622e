"""One CLIP text encoder: from weighted fragments of text to the embedding that the UNet attends to.

Text without weights gives the same bits as the pipelines' own `encode_prompt`. Weights work as in
Compel 2.5 (its `EmbeddingsProvider`): above 1, a token's embedding moves away from that of the
empty prompt; below 1, the whole embedding moves towards that of the prompt with the fragment masked
out. Text that is longer than the encoder's 77 tokens is cut into chunks that are encoded one by
one: at the end of a sentence, else of a phrase, else of a word.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from easel.prompts.prompt_weights import Fragment

# Each fragment below 1 needs another run of its chunks. Above this number, fragments are only
# scaled, so that a prompt cannot cost any amount of time.
_MOST_HIDDEN = 8
_LEAST_WEIGHT = 1e-5  # the tangent below is infinite at 0
_SENTENCE_ENDS = {".</w>"}
_PHRASE_ENDS = {".</w>", ",</w>", ";</w>", ":</w>"}


class CannotEncode(ValueError):
    """A compiled encoder cannot encode this text; says why."""


@dataclass(frozen=True)
class Embedding:
    """One encoder's output for one prompt.

    Attributes:
        hidden: shaped (1, tokens, width); the number of tokens is a multiple of the encoder's.
        pooled: shaped (1, width), of the first chunk; None for an encoder without projection.
    """

    hidden: torch.Tensor
    pooled: torch.Tensor | None


@dataclass(frozen=True)
class _Token:
    """A token with its weight; `hidden_as` is the index of its fragment below 1, else -1."""

    id: int
    weight: float = 1.0
    hidden_as: int = -1


class TextEncoder:
    """A tokenizer and its encoder.

    Args:
        tokenizer: CLIP's.
        encoder: CLIPTextModel or CLIPTextModelWithProjection.
        penultimate: take the layer before the last, as SDXL does.
    """

    def __init__(self, tokenizer: Any, encoder: Any, *, penultimate: bool) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._penultimate = penultimate
        config = encoder.config
        self._length = min(int(tokenizer.model_max_length), int(config.max_position_embeddings))
        self._uses_mask = bool(getattr(config, "use_attention_mask", False))
        # optimum-neuron describes there what the encoder was compiled for: one chunk, no mask.
        self._compiled = hasattr(config, "neuron")

    def encode(self, fragments: Sequence[Fragment]) -> Embedding:
        """Return the embedding of a prompt's fragments.

        Raises:
            CannotEncode: if the encoder is compiled, and the prompt takes more than one chunk, or
                has a weight below 1.
        """
        chunks = self._split(self._tokenize(fragments))
        if self._compiled:
            self._check_compiled(fragments, chunks)
        runs = [self._run(chunk) for chunk in chunks]
        pooled = runs[0].pooled
        # Without weights the result must be the encoder's own, bit for bit.
        if all(token.weight == 1 for chunk in chunks for token in chunk):
            return Embedding(_joined([run.hidden for run in runs]), pooled)
        empty = self.empty().hidden
        weighted = [
            _weigh(run.hidden, empty, chunk) for run, chunk in zip(runs, chunks, strict=True)
        ]
        mixed = self._mix(fragments, chunks, weighted, empty)
        return Embedding(_joined(mixed).to(runs[0].hidden.dtype), pooled)

    def empty(self) -> Embedding:
        """Return the embedding of the empty prompt."""
        return self._run(self._chunk([]))

    def _check_compiled(
        self, fragments: Sequence[Fragment], chunks: Sequence[list[_Token]]
    ) -> None:
        if len(chunks) > 1:
            raise CannotEncode(
                f"must be at most {self._length - 2} tokens long, about "
                f"{(self._length - 2) * 3 // 4} words, for this compiled model"
            )
        if _lowered(fragments):
            raise CannotEncode("must have no weight below 1 for this compiled model")

    @property
    def _end(self) -> int:
        return int(self._tokenizer.eos_token_id)

    def _tokenize(self, fragments: Sequence[Fragment]) -> list[_Token]:
        texts = [fragment.text for fragment in fragments]
        batch = self._tokenizer(texts, add_special_tokens=False, truncation=False)["input_ids"]
        lowered = _lowered(fragments)
        return [
            _Token(token_id, fragment.weight, lowered.index(place) if place in lowered else -1)
            for place, (fragment, ids) in enumerate(zip(fragments, batch, strict=True))
            for token_id in ids
        ]

    def _split(self, tokens: list[_Token]) -> list[list[_Token]]:
        """Cut into chunks as long as the encoder's input, at least one."""
        room, chunks = self._length - 2, []  # without the start and the end token
        while len(tokens) > room:
            end = self._cut(tokens[:room])
            chunks.append(self._chunk(tokens[:end]))
            tokens = tokens[end:]
        return [*chunks, self._chunk(tokens)]

    def _cut(self, tokens: list[_Token]) -> int:
        words = self._tokenizer.convert_ids_to_tokens([token.id for token in tokens])
        for ends in (_SENTENCE_ENDS, _PHRASE_ENDS):
            for place in reversed(range(len(words))):
                if words[place] in ends:
                    return place + 1
        # A word longer than a chunk is cut anywhere.
        last = (place for place in reversed(range(len(words))) if words[place].endswith("</w>"))
        return next(last, len(words) - 1) + 1

    def _chunk(self, tokens: list[_Token]) -> list[_Token]:
        padding = [_Token(int(self._tokenizer.pad_token_id))] * (self._length - 2 - len(tokens))
        start = _Token(int(self._tokenizer.bos_token_id))
        return [start, *tokens, _Token(self._end), *padding]

    def _run(self, chunk: list[_Token], hide: Collection[int] = ()) -> Embedding:
        """Run the encoder with the tokens of some fragments masked out."""
        ids = torch.tensor([[token.id for token in chunk]], device=self._encoder.device)
        output = self._encoder(
            ids, attention_mask=self._mask(chunk, hide), output_hidden_states=self._penultimate
        )
        # An encoder with projection returns the pooled embedding first, a plain one the tokens'.
        pooled = output[0] if output[0].ndim == 2 else None
        return Embedding(output.hidden_states[-2] if self._penultimate else output[0], pooled)

    def _mask(self, chunk: list[_Token], hide: Collection[int]) -> torch.Tensor | None:
        if not hide and not self._uses_mask:
            return None  # as the pipelines do: a mask of ones may round differently
        mask = torch.tensor([[int(token.hidden_as not in hide) for token in chunk]])
        if self._uses_mask:
            ends = [token.id for token in chunk].index(self._end)
            mask[:, ends + 1 :] = 0
        return mask.to(self._encoder.device)

    def _mix(
        self,
        fragments: Sequence[Fragment],
        chunks: list[list[_Token]],
        weighted: list[torch.Tensor],
        empty: torch.Tensor,
    ) -> list[torch.Tensor]:
        """Move towards the prompts without a fragment below 1: half the way at 0.5."""
        shares = [_share(fragments[place].weight) for place in _lowered(fragments)]
        total = 1.0 + sum(shares)
        mixed = [chunk / total for chunk in weighted]
        for number, share in enumerate(shares):
            for place, chunk in enumerate(chunks):
                other = weighted[place]
                if any(token.hidden_as == number for token in chunk):
                    other = _weigh(self._run(chunk, {number}).hidden, empty, chunk)
                mixed[place] = mixed[place] + other * (share / total)
        return mixed


def _lowered(fragments: Sequence[Fragment]) -> list[int]:
    """Return the indices of the fragments that are masked out one after the other."""
    lowered = [place for place, fragment in enumerate(fragments) if fragment.weight < 1]
    return lowered[:_MOST_HIDDEN]


def _share(weight: float) -> float:
    """Return the share of the prompt without the fragment: 0 at weight 1, 1 at 0.5, most at 0."""
    return math.tan((1.0 - max(weight, _LEAST_WEIGHT)) * math.pi / 2)


def _weigh(hidden: torch.Tensor, empty: torch.Tensor, chunk: list[_Token]) -> torch.Tensor:
    """Scale each token's distance from the empty prompt, in 32 bits: 16 overflow when mixed."""
    weights = torch.tensor([[[token.weight] for token in chunk]], device=hidden.device)
    hidden, empty = hidden.float(), empty.float()
    return torch.where(weights == 1, hidden, empty + (hidden - empty) * weights)


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
