"""Write captions: many wordings of one spec, drawn at random each time."""

from dataclasses import dataclass

import numpy as np

from model_package.demo.data.colours import COLOUR_NAMES, COLOUR_WORDS
from model_package.demo.data.compose import KINDS, NO_COLOUR, Spec
from model_package.demo.data.scenes import BACKGROUNDS, SCENES
from model_package.demo.data.things import Thing, all_things

# Settings: how captions vary.
ALIAS = 0.35
ARTICLE = 0.75
ADJECTIVE = 0.12
DECORATED = 0.65
SCENE_FIRST = 0.08
NOISE_WORD = 0.04  # before the caption, and again after it

TEMPLATES = (
    "a photo of {}",
    "photo of {}",
    "a picture of {}",
    "picture of {}",
    "an image of {}",
    "an illustration of {}",
    "a drawing of {}",
    "a painting of {}",
    "an oil painting of {}",
    "a cartoon of {}",
    "an icon of {}",
    "an emoji of {}",
    "a render of {}",
    "a close-up of {}",
    "draw {}",
    "draw me {}",
    "show me {}",
    "please draw {}",
    "i want {}",
    "there is {}",
    "this is {}",
    "{}, digital art",
    "{}, highly detailed, 4k",
    "{}, 4k",
    "{}, 8k, sharp focus",
    "{}, trending on artstation",
    "{}, masterpiece, best quality",
    "{}, cinematic lighting",
    "{}, studio lighting",
    "{}, concept art",
    "{}, cartoon style",
    "{}, in the style of an emoji",
    "a photo of {}, highly detailed",
    "{}, vector art",
    "{}.",
    "{}!",
)
ADJECTIVES = (
    "cute",
    "beautiful",
    "little",
    "big",
    "small",
    "happy",
    "funny",
    "realistic",
    "detailed",
    "shiny",
    "nice",
    "single",
    "simple",
    "lovely",
    "old",
    "new",
    "fresh",
    "majestic",
)
BESIDE = ("{} and {}", "{} and {}", "{} next to {}", "{} beside {}", "{} with {}", "{} near {}")
UPON = ("{} riding {}", "{} riding {}", "{} on {}", "{} on top of {}", "{} sitting on {}")
PLAIN = (
    "on a {} background",
    "on a {} background",
    "with a {} background",
    "on {}",
    "against a {} background",
    "in front of a {} wall",
)
SCENE_WORDS = {
    "space": ("in space", "in outer space", "among the stars", "in the galaxy"),
    "night": ("at night", "in the dark", "under the moon", "in the moonlight"),
    "grass": ("on grass", "on the grass", "in a meadow", "in a field", "in the park"),
    "beach": ("at the beach", "on the beach", "by the sea", "on the sand"),
    "sunset": ("at sunset", "at dusk", "in the evening", "at sunrise"),
    "snow": ("in the snow", "in winter", "on snow", "in a snowy landscape"),
    "underwater": ("underwater", "under the sea", "in the ocean", "under water"),
    "desert": ("in the desert", "in a desert", "on mars", "on the dunes"),
    "forest": ("in a forest", "in the forest", "in the woods", "among trees"),
    "city": ("in the city", "in a city", "in the street", "in town", "downtown"),
    "sky": ("in the sky", "in the clouds", "in the air", "above the clouds"),
}


@dataclass
class Captioner:
    """Writes captions with its own random numbers."""

    rng: np.random.Generator

    def caption(self, spec: Spec) -> str:
        """Return a caption that names everything in the image."""
        subject = self.subject(spec)
        background = self.background(spec.background)
        if background and self.rng.random() < SCENE_FIRST:
            caption = f"{background}, {subject}"
        else:
            caption = f"{subject} {background}".strip()
        if self.rng.random() < DECORATED:
            caption = self.one_of(TEMPLATES).format(caption)
        return self.with_noise(caption)

    def subject(self, spec: Spec) -> str:
        things = all_things()
        first = self.phrase(things[spec.thing], spec.colour)
        if KINDS[spec.kind] == "single":
            return first
        second = self.phrase(things[spec.other], spec.other_colour)
        return self.one_of(BESIDE if KINDS[spec.kind] == "pair" else UPON).format(first, second)

    def phrase(self, thing: Thing, colour: int) -> str:
        """Return a phrase such as "a cute red apple"."""
        use_alias = thing.aliases and self.rng.random() < ALIAS
        words = [self.one_of(thing.aliases) if use_alias else thing.name]
        if colour != NO_COLOUR:
            name = COLOUR_NAMES[colour]
            words.insert(0, self.one_of(COLOUR_WORDS.get(name, (name,))))
        if self.rng.random() < ADJECTIVE:
            words.insert(0, self.one_of(ADJECTIVES))
        if not thing.no_article and self.rng.random() < ARTICLE:
            words.insert(0, "an" if words[0][0] in "aeiou" else "a")
        return " ".join(words)

    def background(self, index: int) -> str:
        name = BACKGROUNDS[index]
        if name in SCENES:
            return self.one_of(SCENE_WORDS[name])
        if not name:
            return ""
        return self.one_of(PLAIN).format(self.one_of(COLOUR_WORDS.get(name, (name,))))

    def with_noise(self, caption: str) -> str:
        """Add a meaningless word now and then, so that unknown words have little effect."""
        if self.rng.random() < NOISE_WORD:
            caption = f"{self.noise_word()} {caption}"
        if self.rng.random() < NOISE_WORD:
            caption = f"{caption} {self.noise_word()}"
        return caption

    def noise_word(self) -> str:
        letters = self.rng.integers(ord("a"), ord("z") + 1, self.rng.integers(3, 9))
        return "".join(map(chr, letters))

    def one_of(self, choices: tuple[str, ...]) -> str:
        return choices[self.rng.integers(len(choices))]
