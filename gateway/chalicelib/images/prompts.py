"""The prompt of a request: typed into the path, or a random sentence."""

from __future__ import annotations

import json
import random
import threading
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from chalicelib.errors import InvalidRequest

# The example of Stable Diffusion's own model card.
DEFAULT_PROMPT = "a photo of an astronaut riding a horse on mars"

_SENTENCES = Path(__file__).parents[1] / "sentences.json"
_RANDOM_STATE = threading.Lock()


def prompt_from_path(text: str) -> str:
    """Return the prompt of the last part of an inference URL.

    API Gateway passes a path parameter on as it was sent, and so does `chalice local`: it is
    decoded here, once. In a path a plus sign is a plus sign.

    Raises:
        InvalidRequest: if it is not percent-encoded UTF-8.
    """
    try:
        # `unquote` would replace invalid UTF-8 without an error.
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeError as error:
        raise InvalidRequest("prompt: must be percent-encoded UTF-8", field="prompt") from error


def random_sentence(seed: int) -> str:
    """Return a sentence of essential-generators; the same seed gives the same sentence."""
    generator = _generator()
    # The package draws from the random module's one shared generator.
    with _RANDOM_STATE:
        state = random.getstate()
        try:
            random.seed(seed)
            return str(generator.sentence())
        finally:
            random.setstate(state)


@cache
def _generator() -> Any:
    """Return a generator that chooses one of the sentences of `prepare_sentences.py`."""
    from essential_generators import (
        DocumentGenerator,
        MarkovTextGenerator,
        MarkovWordGenerator,
    )

    # The package's own models take 2 to 3 s and 476 MB to load, and 9 s in a Lambda of 512 MB,
    # which has 10 s to start.
    generator = DocumentGenerator(
        text_generator=MarkovTextGenerator(load_model=False),
        word_generator=MarkovWordGenerator(load_model=False),
    )
    generator.sentence_cache = json.loads(_SENTENCES.read_text(encoding="utf-8"))
    return generator
