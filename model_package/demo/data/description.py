"""What the model says about itself: its vocabulary for the page, and example prompts."""

import re
from typing import Any

from model_package.demo.data.captions import (
    ADJECTIVES,
    BESIDE,
    PLAIN,
    SCENE_WORDS,
    TEMPLATES,
    UPON,
)
from model_package.demo.data.colours import COLOUR_NAMES, COLOUR_WORDS
from model_package.demo.data.scenes import SCENE_NAMES
from model_package.demo.data.things import Thing, all_things

ABOUT = (
    "This is Easel's small bundled model. It knows {count} things and draws them as if it had only"
    " ever seen emoji (it has). For anything else, start Easel with a larger model:"
    " `./setup.sh run --model stabilityai/sd-turbo`."
)
# Drawn recognizably at the default settings, whatever the seed.
EXAMPLES = (
    "a red apple",
    "a house in the snow",
    "a penguin on grass",
    "a rocket in space",
    "a cat and a dog",
    "a dog on a blue background",
)
# Articles that the first letter does not tell.
_ARTICLES = {
    "unicorn": "a",
    "ufo": "a",
    "hourglass": "an",
    "statue of liberty": "the",
    **dict.fromkeys(("earth", "saturn", "santa claus", "thumbs up", "lips", "crossed swords"), ""),
}


def description() -> dict[str, Any]:
    """Return the part of `easel.json` that describes the model to people."""
    things = all_things()
    return {
        "about": ABOUT.format(count=len(things)),
        "examples": list(EXAMPLES),
        "vocabulary": {
            "things": [_entry(thing) for thing in things if not thing.fixed_colour],
            "characters": [_entry(thing) for thing in things if thing.fixed_colour],
            "colours": [_names(COLOUR_WORDS.get(name, (name,))) for name in COLOUR_NAMES],
            "backgrounds": [
                *(_names(SCENE_WORDS[name]) for name in SCENE_NAMES),
                *(f"on {_article(name)} {name} background" for name in COLOUR_NAMES),
            ],
            "words": _words(),
        },
    }


def _entry(thing: Thing) -> str | list[str]:
    article = "" if thing.no_article else _ARTICLES.get(thing.name, _article(thing.name))
    return _names((f"{article} {thing.name}".strip(), *thing.aliases))


def _names(names: tuple[str, ...]) -> str | list[str]:
    return names[0] if len(names) == 1 else list(names)


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"


def _words() -> list[str]:
    """Return the words around the things in training captions."""
    texts = (*TEMPLATES, *ADJECTIVES, *BESIDE, *UPON, *PLAIN)
    return sorted({word for text in texts for word in re.findall(r"[a-z0-9]+", text.lower())})
