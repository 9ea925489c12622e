"""What the bundled model draws, seen through the code that serves it."""

import io
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from model_package.demo.data.styles import BLOCKS
from model_package.demo.export import LIMIT, size_of
from model_package.demo.work_dir import WEIGHTS
from tests.conftest import ALL
from tests.model_package.doubles.toolkit import Toolkit

Pixels = npt.NDArray[np.float64]  # (128, 128, 3), 0 to 255
Draw = Callable[..., Pixels]

# The model's own default with --all, and otherwise as many as its pictures need to be recognisable.
STEPS = 20 if ALL else 12
RED, GREEN, BLUE = 0, 1, 2
MIDDLE = np.s_[44:84, 44:84]
CORNERS = np.s_[[2, 2, -3, -3], [2, -3, 2, -3]]
LEFT, RIGHT = np.s_[50:78, 20:48], np.s_[50:78, 80:108]


def drawing(model):
    """How to ask a model for a picture with its own defaults, except for steps and what is said."""

    def post(prompt, **fields):
        request = {"prompt": prompt, "seed": 7, "steps": STEPS, "guidance_scale": 3.0, **fields}
        response = model.post({"width": 128, "height": 128, **request}, accept="image/png")
        assert response.status == 200, response.body
        assert isinstance(response.body, bytes)
        return np.asarray(Image.open(io.BytesIO(response.body)).convert("RGB")).astype(float)

    return post


@pytest.fixture(scope="module")
def draw():
    """Draw each picture once."""
    return cache(drawing(Toolkit(WEIGHTS)))


def lead(pixels, channel):
    """How far one primary colour is ahead of the stronger of the others, on average."""
    means = pixels.reshape(-1, 3).mean(0)
    return float(means[channel] - np.delete(means, channel).max())


@pytest.mark.parametrize(
    ("prompt", "channel"),
    [("a red apple", RED), ("a green apple", GREEN), ("a blue car", BLUE), ("a red car", RED)],
)
def test_a_thing_has_the_colour_that_was_requested(draw, prompt, channel):
    assert lead(draw(prompt)[MIDDLE], channel) > 20


@pytest.mark.parametrize(("name", "channel"), [("red", RED), ("green", GREEN), ("blue", BLUE)])
def test_a_background_has_the_colour_that_was_requested(draw, name, channel):
    assert lead(draw(f"a dog on a {name} background")[CORNERS], channel) > 40


def test_scenes_look_like_themselves(draw):
    meadow = draw("a cow on grass")
    assert lead(meadow[-4:], GREEN) > 20
    assert lead(meadow[:4], BLUE) > 10
    assert draw("a rocket in space")[CORNERS].mean() < 60


def test_each_of_two_things_has_its_own_colour(draw):
    pair = draw("a red apple and a blue car")
    assert lead(pair[LEFT], RED) > 20
    assert lead(pair[RIGHT], BLUE) > 20


def test_the_same_seed_is_the_same_picture_and_another_is_not(draw):
    assert (draw("a cat") == draw.__wrapped__("a cat")).all()
    assert (draw("a cat") != draw("a cat", seed=8)).any()


def test_a_negative_prompt_removes_what_it_names(draw):
    plain, other = draw("an apple"), draw("an apple", negative_prompt="a red apple")
    assert lead(plain[MIDDLE], RED) > 100
    assert lead(other[MIDDLE], RED) < lead(plain[MIDDLE], RED) - 30


def test_guidance_matters_and_without_it_a_negative_prompt_has_no_say(draw):
    plain, other = (
        draw("a green apple", guidance_scale=1.0, negative_prompt=negative)
        for negative in ("", "a red apple")
    )
    assert (plain == other).all()
    assert (plain != draw("a green apple")).any()


def test_the_refiner_has_a_share_in_the_picture_where_it_is_let(draw, monkeypatch):
    monkeypatch.setenv("EASEL_DEFAULTS", '{"refiner_start": 0.8}')
    alone, refined = draw("a cat"), drawing(Toolkit(WEIGHTS))("a cat")
    assert (refined != alone).any()
    assert np.abs(refined - alone).mean() < 10  # it refines; it does not draw another cat


def test_the_pixel_look_has_flatter_blocks(draw):
    def unevenness(pixels):
        side = len(pixels) // BLOCKS
        return float(pixels.reshape(BLOCKS, side, BLOCKS, side, 3).std((1, 3)).mean())

    assert unevenness(draw("a cat", lora="pixel")) < 0.6 * unevenness(draw("a cat"))


def test_the_outline_look_leaves_paper_and_little_colour(draw):
    def colourfulness(pixels):
        return float(np.ptp(pixels, axis=2).mean())

    lines = draw("a red apple", lora="outline")
    assert colourfulness(lines) < 0.4 * colourfulness(draw("a red apple"))
    assert lines[CORNERS].min() > 200


def test_a_look_at_no_weight_is_the_plain_picture(draw):
    assert (draw("a cat", lora="pixel:0") == draw("a cat")).all()


def test_the_model_is_small_enough_for_the_repository():
    extras = {name: size_of(WEIGHTS / name) for name in ("refiner", "loras")}
    assert size_of(WEIGHTS) - sum(extras.values()) <= LIMIT
    assert extras["refiner"] < 7_000_000
    assert all(path.stat().st_size < 1_000_000 for path in (WEIGHTS / "loras").iterdir())


def test_no_file_says_where_it_was_made():
    for path in WEIGHTS.rglob("*.json"):
        assert "_name_or_path" not in path.read_text(encoding="utf-8"), path
