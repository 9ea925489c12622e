"""Which requests begin, at which size of batch, and which runs are computed next.

It knows nothing of a model. A request that waits has a kind: what requests that could share a batch
have in common. A run that has begun has a key: equal in runs whose next calls can be one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Protocol, TypeVar

from easel.batching.sizes import Sizes

# Turns that a batch with copies in it waits for others, while there are fuller ones.
_MOST_TURNS = 4


class Suspended(Protocol):
    """A run that waits for a call.

    Attributes:
        size: of its batches, from its beginning to its end.
        key: of its call; None for one that cannot be shared.
        since: the turn in which it was suspended.
    """

    @property
    def size(self) -> int: ...

    @property
    def key(self) -> Hashable: ...

    @property
    def since(self) -> int: ...


Item = TypeVar("Item", bound=Suspended)
Kind = TypeVar("Kind", bound=Hashable)


def has_room(adapters: Hashable, present: Sequence[Hashable], capacity: int) -> bool:
    """Whether a request can begin.

    Args:
        adapters: the request's.
        present: those of the runs, and of the requests that begin before it.
        capacity: the most runs at a time.
    """
    # Adapters are in the weights, which all runs share: also two versions of a file differ.
    same = all(other == adapters for other in present)
    return not present or (same and len(present) < capacity)


def sizes_of(
    starting: Sequence[Kind],
    running: Sequence[tuple[Kind, int]],
    sizes: Sizes,
    most: Mapping[Kind, int],
) -> list[int]:
    """Return the size of batch for each request that begins now.

    Args:
        starting: their kinds.
        running: the kind and the size of each run.
        sizes: of the model's batches.
        most: the largest size that fits the memory, by kind, where it is known.
    """
    kinds = Counter(starting) + Counter(kind for kind, _ in running)
    chosen: list[int] = []
    for kind in starting:
        present = [*running, *zip(starting, chosen, strict=False)]
        own = Counter(size for other, size in present if other == kind)
        chosen.append(sizes.choose(kinds[kind], own, most.get(kind)))
    return chosen


def next_batch(runs: Sequence[Item], turn: int) -> list[Item]:
    """Return the runs whose turn it is: their calls become one, or it is only one.

    Args:
        runs: at least one.
        turn: the number of the present turn.
    """
    groups: dict[Hashable, list[Item]] = {}
    for place, run in enumerate(runs):
        groups.setdefault(place if run.key is None else (run.size, run.key), []).append(run)

    def urgency(group: Sequence[Item]) -> tuple[bool, float, int]:
        """Full batches take turns; one with copies in it waits for a while to become fuller."""
        waited = turn - min(run.since for run in group)
        share = 1.0 if group[0].key is None else min(len(group) / group[0].size, 1.0)
        return waited > _MOST_TURNS, share, waited

    chosen = max(groups.values(), key=urgency)
    return sorted(chosen, key=lambda run: run.since)[: chosen[0].size]
