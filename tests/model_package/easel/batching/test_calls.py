"""Which calls can be one, and that each gets its own rows of the result."""

import pytest
import torch

from easel.batching.calls import Call, StandIn, run_together


def call(part, *args, **kwargs):
    """Return the call that a stand-in suspends in."""
    return StandIn(part, lambda suspended: suspended, name="unet", shared=True)(*args, **kwargs)


class Doubling(torch.nn.Module):
    """Returns everything it is given, tensors doubled, and notes the sizes."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, sample, *args, **kwargs):
        self.sizes.append(len(sample))
        doubled = [2 * row for row in sample] if isinstance(sample, list) else 2 * sample
        return (doubled, *args), kwargs


def rows(*values):
    return torch.tensor([[float(value)] for value in values])


def test_each_call_gets_its_own_rows_of_one_with_a_fixed_number_of_them():
    part = Doubling()
    calls = [
        call(part, rows(1, 2), torch.tensor(7), text=rows(3, 4), flag=True),
        call(part, rows(5, 6), torch.tensor(8), text=rows(7, 8), flag=True),
    ]
    assert calls[0].key == calls[1].key
    results = run_together(calls, 4)

    assert part.sizes == [8]
    for number, ((sample, time), kwargs) in enumerate(results):
        assert sample.equal(2 * calls[number].args[0])
        assert time.equal(torch.tensor([7 + number] * 2))
        assert kwargs["text"].equal(calls[number].kwargs["text"])
        assert kwargs["flag"] is True


def test_images_can_be_items_of_lists():
    part = Doubling()
    calls = [
        call(part, [rows(1), rows(2)], [9, 9]),
        call(part, [rows(3), rows(4)], [9, 9]),
    ]
    assert calls[0].key == calls[1].key
    (_, second) = run_together(calls, 2)

    assert [item.item() for item in second[0][0]] == [6, 8]
    assert second[0][1] == [9, 9]


@pytest.mark.parametrize(
    "other",
    [
        (rows(1), {}),  # unguided
        (torch.zeros(2, 2), {}),  # another size
        (rows(1, 2).double(), {}),
        (rows(1, 2), {"text": torch.zeros(2, 3, 4)}),  # a longer prompt
        (rows(1, 2), {"text": None}),
        (rows(1, 2), {"ids": torch.arange(5) + 1}),  # the same for all rows, but another
        (rows(1, 2), {"scale": 0.5}),
        (rows(1, 2), {"added": {"ids": rows(1, 2)}}),
        (rows(1, 2), {"lengths": [3, 4]}),
    ],
)
def test_calls_that_differ_in_more_than_their_rows_are_not_one(other):
    part = Doubling()
    plain = {"text": torch.zeros(2, 2, 4), "ids": torch.arange(5), "scale": 1, "lengths": [3, 3]}
    sample, changes = other

    first, second = call(part, rows(1, 2), **plain), call(part, sample, **{**plain, **changes})
    assert first.key is not None
    assert first.key == call(part, rows(3, 4), **plain).key
    assert second.key != first.key


def test_calls_of_two_parts_are_not_one():
    assert call(Doubling(), rows(1)).key != call(Doubling(), rows(1)).key


@pytest.mark.parametrize("value", [object(), {1: object()}, [object(), object()]])
def test_what_cannot_be_compared_is_not_shared(value):
    assert call(Doubling(), rows(1, 2), value=value).key is None


def test_a_call_alone_gets_its_arguments_as_they_are():
    part = Doubling()
    alone = Call(part, (rows(1),), {"flag": 3}, "unet")

    (result,), kwargs = alone.run()
    assert result.equal(2 * rows(1))
    assert kwargs == {"flag": 3}


def test_a_stand_in_is_the_part_in_everything_else():
    part = Doubling()
    stand_in = StandIn(part, lambda suspended: suspended, name="unet", shared=True)

    assert stand_in.sizes is part.sizes
    with pytest.raises(AttributeError):
        _ = stand_in.missing
