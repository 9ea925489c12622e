"""peft's configuration, which diffusers writes into a file: the alpha of each layer.

The names and defaults are those of peft's LoraConfig, LoHaConfig and LoKrConfig.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from easel.lora.keys import LoraUnusable

_METADATA = "lora_adapter_metadata"
_DEFAULT = 8  # of peft's `r`, `lora_alpha` and `alpha`
# Repeated groups take time exponential in the length of a name, and many repetitions take long as
# well; peft writes neither.
_SLOW = re.compile(r"\)[*+{]|(?:[*+{][^*+{]*){5}")
_LONGEST = 300
_TEXT_MODEL = "text_model."


class PeftConfig:
    """The configuration of each part of the pipeline; empty if the file has none.

    Raises:
        LoraUnusable: if a value is of another type than peft's.
    """

    def __init__(self, metadata: Mapping[str, str] | None) -> None:
        text = (metadata or {}).get(_METADATA)
        try:
            data = None if text is None else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise LoraUnusable(f"its metadata {_METADATA} is not JSON") from error
        if not isinstance(data, dict | None):
            raise LoraUnusable(f"its metadata {_METADATA} is not an object")
        self._parts: dict[str, _Part] = {}
        for key in data or {}:
            part, dot, _ = key.partition(".")
            if dot and part not in self._parts:
                values = {
                    each.removeprefix(f"{part}."): value
                    for each, value in (data or {}).items()
                    if each.startswith(f"{part}.")
                }
                self._parts[part] = _Part(values)

    def scale(self, part: str, layer: str, rank: int | None) -> float:
        """Return the factor of a layer's change if the file has no alpha of it.

        Args:
            part: of the pipeline.
            layer: the layer's name in the file, with dots.
            rank: of the tensors; None if they are not decomposed.
        """
        config = self._parts.get(part)
        # Alpha is the rank without a configuration, as in diffusers and ComfyUI.
        return 1.0 if config is None else config.scale(layer, rank)


class _Part:
    def __init__(self, values: Mapping[str, Any]) -> None:
        alpha = values.get("lora_alpha", values.get("alpha"))
        self._alpha = _number("lora_alpha", _DEFAULT if alpha is None else alpha)
        rank = values.get("r")
        self._rank = _number("r", _DEFAULT if rank is None else rank)
        self._alphas = _patterns("alpha_pattern", values.get("alpha_pattern"))
        self._ranks = _patterns("rank_pattern", values.get("rank_pattern"))
        root = values.get("use_rslora")
        if not isinstance(root, bool | None):
            raise LoraUnusable("its metadata has a use_rslora that is not true or false")
        self._root = bool(root)

    def scale(self, layer: str, rank: int | None) -> float:
        alpha = _find(self._alphas, layer, self._alpha)
        actual = _find(self._ranks, layer, self._rank) if rank is None else rank
        if actual <= 0:
            raise LoraUnusable("its metadata has a rank that is not positive")
        # Rank-stabilised LoRA divides by the root of the rank (https://arxiv.org/abs/2312.03732).
        return alpha / (math.sqrt(actual) if self._root else actual)


def _find(patterns: list[tuple[re.Pattern[str], float]], layer: str, default: float) -> float:
    """Return the value of the first pattern that matches, as peft chooses it."""
    # transformers 5 dropped a level of names, so a file can have either.
    other = (
        layer.removeprefix(_TEXT_MODEL) if layer.startswith(_TEXT_MODEL) else _TEXT_MODEL + layer
    )
    for pattern, value in patterns:
        if pattern.match(layer) or pattern.match(other):
            return value
    return default


def _patterns(name: str, value: Any) -> list[tuple[re.Pattern[str], float]]:
    if value is None:
        return []
    if not isinstance(value, dict):
        raise LoraUnusable(f"its metadata has a {name} that is not an object")
    patterns = []
    for pattern, number in value.items():
        if len(pattern) > _LONGEST or _SLOW.search(pattern):
            raise LoraUnusable(f"its metadata has a {name} that is too complex: {pattern[:40]}")
        try:
            # For the whole name, or for its end after a dot.
            compiled = re.compile(rf"(?:.*\.)?(?:{pattern})$")
        except (re.error, OverflowError, RecursionError) as error:
            raise LoraUnusable(
                f"its metadata has a {name} that is no regular expression: {pattern[:40]}"
            ) from error
        patterns.append((compiled, _number(name, number)))
    return patterns


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise LoraUnusable(f"its metadata has a {name} that is not a number")
    return float(value)
