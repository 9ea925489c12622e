import numpy as np
import pytest

from model_package.demo.data.captions import SCENE_WORDS, Captioner
from model_package.demo.data.colours import COLOUR_NAMES, COLOUR_WORDS
from model_package.demo.data.compose import KINDS, NO_COLOUR, NO_THING, Spec, SpecMaker
from model_package.demo.data.scenes import BACKGROUNDS, SCENES
from model_package.demo.data.things import all_things

NAMES = [thing.name for thing in all_things()]
APPLE, HORSE, CASTLE = NAMES.index("apple"), NAMES.index("horse"), NAMES.index("castle")


def colour_words(colour):
    name = COLOUR_NAMES[colour]
    return COLOUR_WORDS.get(name, (name,))


def background_words(background):
    name = BACKGROUNDS[background]
    return SCENE_WORDS[name] if name in SCENES else COLOUR_WORDS.get(name, (name,))


def named(words, caption):
    return any(word in caption for word in words)


@pytest.mark.parametrize("seed", range(4))
def test_a_caption_names_everything_that_is_drawn(seed):
    rng = np.random.default_rng(seed)
    maker, captioner = SpecMaker(rng), Captioner(rng)
    for _ in range(300):
        spec = maker.make()
        caption = captioner.caption(spec)
        for thing, colour in ((spec.thing, spec.colour), (spec.other, spec.other_colour)):
            assert thing == NO_THING or named(all_things()[thing].words, caption)
            assert colour == NO_COLOUR or named(colour_words(colour), caption)
        assert spec.background == 0 or named(background_words(spec.background), caption)


def test_a_picture_has_many_captions():
    captioner = Captioner(np.random.default_rng(0))
    assert len({captioner.caption(Spec(0, APPLE)) for _ in range(200)}) > 60


def test_the_left_thing_is_named_first():
    captioner = Captioner(np.random.default_rng(0))
    pair = Spec(KINDS.index("pair"), APPLE, other=CASTLE)
    for _ in range(100):
        caption = captioner.caption(pair)
        assert caption.index("apple") < caption.index("castle")


def test_the_rider_is_named_before_what_it_rides():
    captioner = Captioner(np.random.default_rng(0))
    caption = captioner.subject(Spec(KINDS.index("riding"), APPLE, other=CASTLE))
    assert caption.index("apple") < caption.index("castle")


def test_a_vowel_has_its_article():
    captioner = Captioner(np.random.default_rng(0))
    phrases = {captioner.phrase(all_things()[APPLE], NO_COLOUR) for _ in range(100)}
    assert "an apple" in phrases
    assert "a apple" not in phrases


def test_every_background_has_words():
    assert set(SCENE_WORDS) == set(SCENES)


def test_the_same_seed_words_the_same_captions():
    first, second = (Captioner(np.random.default_rng(7)) for _ in range(2))
    spec = Spec(0, HORSE, COLOUR_NAMES.index("purple"))
    assert [first.caption(spec) for _ in range(9)] == [second.caption(spec) for _ in range(9)]
