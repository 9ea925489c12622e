"""Plans of batches, without a model: who joins whom, how long one waits, that none is lost."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easel.batching.plan import has_room, next_batch, sizes_of
from easel.batching.sizes import SIZES, Sizes


@dataclass
class Run:
    """A request on its way: steps that can be shared, and at its end one call that cannot."""

    number: int
    kind: str
    text: int
    adapters: str
    steps: int
    size: int = 0
    since: int = 0

    @property
    def key(self):
        return (self.kind, self.text) if self.steps > 1 else None


REQUESTS = st.builds(
    Run,
    number=st.just(0),
    kind=st.sampled_from(["small", "large, guided"]),
    text=st.sampled_from([77, 77, 154]),
    adapters=st.sampled_from(["", "", "", "pixel:1"]),
    steps=st.integers(1, 8),
)


class Simulation:
    """An engine's turns, and what is true in each of them."""

    def __init__(self, sizes, most):
        self.sizes, self.most = sizes, most
        self.waiting, self.runs, self.ended, self.begun = [], [], [], []
        self.turn = 0

    def step(self):
        self.start()
        if self.runs:
            self.turn += 1
            self.compute(next_batch(self.runs, self.turn))

    def start(self):
        starting = []
        while self.waiting and self.fits(self.waiting[0], starting):
            starting.append(self.waiting.pop(0))
        running = [(run.kind, run.size) for run in self.runs]
        chosen = sizes_of([run.kind for run in starting], running, self.sizes, self.most)
        for run, size in zip(starting, chosen, strict=True):
            assert size in SIZES
            assert size <= min(self.most.get(run.kind, 8), self.sizes.largest)
            run.size, run.since = size, self.turn
        self.begun += starting
        self.runs += starting
        assert not (self.waiting and not self.runs)
        assert len(self.runs) <= self.sizes.largest
        assert len({run.adapters for run in self.runs}) <= 1

    def fits(self, run, starting):
        present = [other.adapters for other in [*self.runs, *starting]]
        return has_room(run.adapters, present, self.sizes.largest)

    def compute(self, batch):
        first = batch[0]
        assert all(run in self.runs for run in batch)
        assert len({run.number for run in batch}) == len(batch)
        assert len(batch) <= (first.size if first.key else 1)
        assert {(run.size, run.key) for run in batch} == {(first.size, first.key)}
        # Everybody has a turn, however many others come.
        assert self.turn - first.since <= 5 + 3 * self.sizes.largest
        for run in batch:
            run.steps, run.since = run.steps - 1, self.turn
            if not run.steps:
                self.runs.remove(run)
                self.ended.append(run)


# An example has up to 180 turns.
@settings(max_examples=min(settings.default.max_examples, 300))
@given(
    arrivals=st.lists(st.tuples(st.integers(0, 20), REQUESTS), max_size=20),
    seconds=st.fixed_dictionaries({size: st.floats(0.1, 10) for size in SIZES}),
    largest=st.sampled_from(SIZES),
    exact=st.booleans(),
    most=st.dictionaries(st.sampled_from(["small", "large, guided"]), st.sampled_from(SIZES)),
)
def test_every_request_ends_and_only_what_can_be_one_call_is(
    arrivals, seconds, largest, exact, most
):
    sizes = Sizes({size: seconds[size] for size in SIZES if size <= largest}, exact=exact)
    simulation = Simulation(sizes, most)
    coming = sorted(arrivals, key=lambda each: each[0])
    for number, (_, run) in enumerate(coming):
        run.number = number
    requests = [Run(**vars(run)) for _, run in coming]
    turns = [turn for turn, _ in coming]
    total = sum(run.steps for run in requests)
    for now in range(max(turns, default=0) + total + 1):
        simulation.waiting += [
            run for run, turn in zip(requests, turns, strict=True) if turn == now
        ]
        simulation.step()

    assert sorted(run.number for run in simulation.ended) == list(range(len(requests)))
    assert [run.number for run in simulation.begun] == list(range(len(requests)))


def run(number, size=4, since=0, **fields):
    fields = {"kind": "small", "text": 77, "adapters": "", "steps": 5, **fields}
    return Run(number, **fields, size=size, since=since)


def test_a_full_batch_comes_before_one_with_copies():
    alone, full = run(0, kind="large"), [run(number) for number in range(1, 5)]
    assert next_batch([alone, *full], turn=1) == full


def test_a_batch_with_copies_waits_only_for_a_while():
    alone, full = run(0, kind="large"), [run(number, since=4) for number in range(1, 5)]
    assert next_batch([alone, *full], turn=5) == [alone]


def test_those_that_waited_longest_are_first():
    runs = [run(number, size=2, since=9 - number) for number in range(4)]
    assert [each.number for each in next_batch(runs, turn=9)] == [3, 2]


@pytest.mark.parametrize(
    ("present", "room"), [([], True), (["a"], True), (["a", "a"], False), (["b"], False)]
)
def test_there_is_room_up_to_the_capacity_for_the_same_adapters(present, room):
    assert has_room("a", present, 2) is room
