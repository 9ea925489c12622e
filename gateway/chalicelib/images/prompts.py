"""The prompt of a request: typed into the path, or a random sentence."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from chalicelib.description import Vocabulary
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


def random_sentence(seed: int, vocabulary: Vocabulary | None = None) -> str:
    """Return a sentence of essential-generators; the same seed gives the same sentence.

    Args:
        seed: chooses it.
        vocabulary: the words to use, for a model that knows no others.
    """
    generator = _generator() if vocabulary is None else _empty_generator()
    # The package draws from the random module's one shared generator.
    with _RANDOM_STATE:
        state = random.getstate()
        try:
            random.seed(seed)
            if vocabulary is None:
                return str(generator.sentence())
            generator.set_template(_template(vocabulary))
            return _filled(generator.document())
        finally:
            random.setstate(state)


def _template(vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Return a template of essential-generators, which chooses one entry of each list."""
    things = [names[0] for names in vocabulary.things]
    all_things = things + [names[0] for names in vocabulary.characters]
    colours = [names[0] for names in vocabulary.colours]
    backgrounds = [names[0] for names in vocabulary.backgrounds]
    sentences = ["{thing}", "{thing} and {other}"]
    sentences += ["{painted}"] if colours else []
    sentences += ["{thing} {background}"] if backgrounds else []
    sentences += ["{painted} {background}"] if colours and backgrounds else []
    return {
        "sentence": sentences,
        "thing": all_things,
        "other": all_things,
        "painted": things,
        # A list must have something to choose, also where no sentence uses it.
        "colour": colours or [""],
        "background": backgrounds or [""],
    }


def _filled(document: Mapping[str, str]) -> str:
    """Return the sentence of a template: its `painted` is a thing in the colour."""
    article, _, rest = document["painted"].partition(" ")
    colour = document["colour"]
    if article in {"a", "an"}:
        painted = f"{'an' if colour[:1] in set('aeiou') else 'a'} {colour} {rest}"
    elif article == "the":
        painted = f"the {colour} {rest}"
    else:
        painted = f"{colour} {document['painted']}"
    sentence = document["sentence"]
    if "{other}" in sentence and document["thing"] == document["other"]:
        sentence = "{thing}"
    return sentence.format_map({**document, "painted": painted})


@cache
def _generator() -> Any:
    """Return a generator that chooses one of the sentences of `prepare_sentences.py`."""
    generator = _empty_generator()
    generator.sentence_cache = json.loads(_SENTENCES.read_text(encoding="utf-8"))
    return generator


def _empty_generator() -> Any:
    """Return a generator without the package's own models, which take seconds to read."""
    from essential_generators import (
        DocumentGenerator,
        MarkovTextGenerator,
        MarkovWordGenerator,
    )

    # The package's own models take 2 to 3 s and 476 MB to load, and 9 s in a Lambda of 512 MB,
    # which has 10 s to start.
    return DocumentGenerator(
        text_generator=MarkovTextGenerator(load_model=False),
        word_generator=MarkovWordGenerator(load_model=False),
    )
