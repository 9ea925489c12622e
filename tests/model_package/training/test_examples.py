from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_package.training.dataset import Item
from model_package.training.examples import Example, Examples, caption_orders, hold_out
from model_package.training.job import Job


def example(number, height=2, repeats=1, mirrored=False, dropout=0.0):
    mean = torch.full((1, height, 2), float(number))
    latents = [(mean, torch.zeros_like(mean))]
    if mirrored:
        latents.append((-mean, torch.zeros_like(mean)))
    return Example(latents, [f"picture {number}"], repeats, (number, 0, 0, 0, height, 2), dropout)


@given(
    st.lists(st.tuples(st.sampled_from([2, 4]), st.integers(1, 3)), min_size=1, max_size=9),
    st.integers(1, 4),
    st.integers(0, 9),
)
def test_an_epoch_has_each_picture_as_often_as_it_repeats(pictures, size, seed):
    made = [example(place, *one) for place, one in enumerate(pictures)]
    examples = Examples(made, Job(name="a", batch_size=size, seed=seed, caption_dropout=0), "x")
    count = len(examples._order(0))

    for epoch in (0, 3):
        batches = [examples.batch(epoch * count + place) for place in range(count)]
        seen = Counter(caption for batch in batches for caption in batch.captions)
        assert seen == {f"picture {place}": one[1] for place, one in enumerate(pictures)}
        assert all(1 <= len(batch.latents) == len(batch.captions) <= size for batch in batches)
        for batch in batches:
            named = [float(caption.split()[1]) for caption in batch.captions]
            assert batch.latents[:, 0, 0, 0].tolist() == named  # each picture has its caption
            assert batch.sizes[:, 0].tolist() == named


def test_a_batch_depends_on_seed_and_number_alone():
    made = [example(place, mirrored=True, dropout=0.5) for place in range(5)]
    jobs = [Job(name="a", batch_size=2, seed=seed) for seed in (0, 0, 1)]
    one, same, other = (Examples(made, job, "x") for job in jobs)
    one.batch(0)  # what was drawn before makes no difference

    assert torch.equal(one.batch(7).latents, same.batch(7).latents)
    assert one.batch(7).captions == same.batch(7).captions
    numbers = range(20)
    assert [one.batch(place).captions for place in numbers] != [
        other.batch(place).captions for place in numbers
    ]


def test_captions_are_dropped_and_pictures_mirrored_at_their_rates():
    examples = Examples([example(1, mirrored=True, dropout=0.25)], Job(name="a"), "x")
    batches = [examples.batch(number) for number in range(400)]

    dropped = sum(batch.captions == [""] for batch in batches)
    mirrored = sum(float(batch.latents.mean()) < 0 for batch in batches)
    assert dropped == pytest.approx(100, abs=30)
    assert mirrored == pytest.approx(200, abs=40)


def test_tags_are_shuffled_after_those_that_are_kept():
    path = Path("a.png")
    item = Item(path, "zorble, red, blue, green", shuffle_tags=True, keep_tags=1)
    orders = caption_orders(item, 0)

    assert 1 < len(orders) <= 6
    for order in orders:
        first, *rest = order.split(", ")
        assert first == "zorble"
        assert sorted(rest) == ["blue", "green", "red"]
    assert caption_orders(Item(path, "a, b"), 0) == ["a, b"]


@pytest.mark.parametrize(
    ("pictures", "share", "count"),
    [(1, 0.5, 0), (5, None, 0), (19, None, 0), (20, None, 2), (5, 0.1, 1), (10, 0.5, 5),
     (30, 0, 0), (1_000, None, 16)],
)  # fmt: skip
def test_few_pictures_are_held_out_of_many_and_the_same_each_time(pictures, share, count):
    items = [Item(Path(f"{number}.png"), "x") for number in range(pictures)]
    job = Job(name="a", held_out=share)
    trained, held_out = hold_out(items, job)

    assert len(held_out) == count
    assert sorted([*trained, *held_out], key=items.index) == items
    assert hold_out(items, job) == (trained, held_out)


def test_the_largest_batch_has_the_most_numbers():
    made = [example(0, height=2), example(1, height=4), example(2, height=2), example(3, height=2)]
    examples = Examples(made, Job(name="a", batch_size=2), "x")

    assert examples.batch(examples.largest_batch()).latents.numel() == 8
