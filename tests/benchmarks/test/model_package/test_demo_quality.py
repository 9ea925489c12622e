import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from model_package.demo.data.compose import KINDS, NO_THING, Spec, is_held_out
from tests.benchmarks.sections.model_package.demo_quality import (
    COLOURS,
    THINGS,
    Judge,
    Tally,
    every_thing,
    groups,
    judge_images,
    line,
    presence,
)

PAIR = KINDS.index("pair")


class FixedJudge(nn.Module):
    """Sees thing 5 in the bright and 7 in the dark; colour 2 and background 3 everywhere."""

    def forward(self, images):
        things, colour, background = (torch.zeros(len(images), n) for n in (THINGS, COLOURS, 24))
        light = images.mean((1, 2, 3))
        things[:, 5], things[:, 7] = light, -light
        colour[:, 2], background[:, 3] = 1, 1
        return things, colour, background


def image():
    """Bright on the left, dark on the right, and bright on the whole."""
    drawn = Image.new("RGB", (128, 128), "white")
    drawn.paste("black", (66, 0, 128, 128))
    return drawn


def verdicts(*specs):
    judged = judge_images(FixedJudge(), specs, [image()] * len(specs))
    return {name: f"{tally.right}/{tally.asked}" for name, tally in judged.items()}


def test_a_single_thing_is_judged_by_the_first_guess():
    assert verdicts(Spec(0, 5), Spec(0, 7)) == {"thing": "1/2"}


def test_colour_and_background_are_judged_only_if_in_the_prompt():
    judged = verdicts(Spec(0, 5, colour=2), Spec(0, 5, colour=3), Spec(0, 5, background=3))
    assert judged == {"thing": "3/3", "colour": "1/2", "background": "1/1"}


def test_a_pair_needs_both_things_in_their_places():
    judged = verdicts(Spec(PAIR, 5, other=7), Spec(PAIR, 5, other=9), Spec(PAIR, 7, other=5))
    assert judged == {"both": "1/3", "either": "2/3"}


def test_two_things_share_the_presence():
    there = presence([Spec(0, 4), Spec(PAIR, 1, other=2)])
    assert there[0, 4] == 1
    assert there[1, [1, 2]].tolist() == [0.5, 0.5]


def test_the_judge_classifies_everything():
    things, colour, background = Judge()(torch.zeros(2, 3, 64, 64))
    assert things.shape == (2, THINGS)
    assert colour.shape == (2, COLOURS)
    assert background.shape[0] == 2


def test_there_is_one_prompt_for_every_thing():
    assert [spec.thing for spec in every_thing()] == list(range(THINGS))


def test_held_out_colours_are_not_in_training():
    prompts = dict(groups())
    unseen, seen = prompts["in a held-out colour"], prompts["in a colour seen in training"]
    assert all(is_held_out(spec.thing, spec.colour) for spec in unseen)
    assert not any(is_held_out(spec.thing, spec.colour) for spec in seen)


def test_prompts_are_the_same_in_every_run():
    assert list(groups()) == list(groups())


def test_pairs_and_riders_have_two_things():
    prompts = dict(groups())
    assert NO_THING not in {spec.other for spec in prompts["two side by side"]}
    assert NO_THING not in {spec.other for spec in prompts["one riding another"]}


def test_figures_are_printed_with_the_number_of_verdicts():
    assert line("a", {"thing": Tally(9, 10)}) == "a: thing 90.0 % of 10"


@pytest.mark.parametrize("right", [True, False])
def test_a_tally_counts(right):
    tally = Tally()
    tally.count(bool(np.bool_(right)))
    assert (tally.right, tally.asked) == (int(right), 1)
