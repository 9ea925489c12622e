import numpy as np
import pytest

from model_package.demo.data.colours import COLOUR_NAMES, COLOURS
from model_package.demo.data.compose import KINDS, NO_COLOUR, Spec, SpecMaker, is_held_out
from model_package.demo.data.scenes import BACKGROUNDS, SCENE_NAMES, draw_scene
from model_package.demo.data.things import all_things

CORNER, LEFT, RIGHT = (1, 1), (33, 66), (95, 66)
NAMES = [thing.name for thing in all_things()]
APPLE, CAR = NAMES.index("apple"), NAMES.index("car")


def near(pixel, colour):
    return bool(np.abs(np.subtract(pixel, COLOURS[colour])).max() <= 12)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("colour", COLOUR_NAMES)
def test_a_plain_background_has_its_colour(composer, rng, colour):
    picture = composer.draw(Spec(0, APPLE, background=BACKGROUNDS.index(colour)), rng)
    assert picture.size == (128, 128)
    assert picture.getpixel(CORNER) == COLOURS[colour]


def test_the_first_of_a_pair_stands_on_the_left(composer, rng):
    blue, yellow = COLOUR_NAMES.index("blue"), COLOUR_NAMES.index("yellow")
    picture = composer.draw(Spec(KINDS.index("pair"), APPLE, blue, CAR, yellow), rng)
    assert near(picture.getpixel(LEFT), "blue")
    assert near(picture.getpixel(RIGHT), "yellow")


def test_a_rider_sits_on_top(composer, rng):
    blue, yellow = COLOUR_NAMES.index("blue"), COLOUR_NAMES.index("yellow")
    picture = composer.draw(Spec(KINDS.index("riding"), APPLE, blue, CAR, yellow), rng)
    assert near(picture.getpixel((64, 34)), "blue")
    assert near(picture.getpixel((64, 96)), "yellow")


def test_a_white_thing_is_never_on_white(composer, rng):
    white = COLOUR_NAMES.index("white")
    corners = [composer.draw(Spec(0, APPLE, white), rng).getpixel(CORNER) for _ in range(40)]
    assert (255, 255, 255) not in corners


def test_the_same_seed_makes_the_same_picture(composer):
    spec = Spec(0, APPLE, background=BACKGROUNDS.index("space"))
    first, second = (composer.draw(spec, np.random.default_rng(3)) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("name", SCENE_NAMES)
def test_a_scene_is_the_same_whenever_it_is_drawn(name):
    first = draw_scene(name, 1).tobytes()
    draw_scene.cache_clear()
    assert draw_scene(name, 1).tobytes() == first


def test_held_out_colours_are_never_made(rng):
    maker = SpecMaker(rng)
    for spec in (maker.make() for _ in range(2000)):
        assert spec.colour == NO_COLOUR or not is_held_out(spec.thing, spec.colour)


def test_faces_and_people_keep_their_colours(rng):
    maker = SpecMaker(rng)
    doctor = NAMES.index("astronaut")
    assert {maker.pick_colour(doctor, "single") for _ in range(200)} == {NO_COLOUR}


def test_only_riders_ride(rng):
    maker = SpecMaker(rng)
    for rider, mount in (maker.pick_things("riding") for _ in range(200)):
        assert all_things()[rider].rides
        assert all_things()[mount].carries


def test_a_pair_is_two_different_things(rng):
    maker = SpecMaker(rng)
    assert all(len(set(maker.pick_things("pair"))) == 2 for _ in range(500))
