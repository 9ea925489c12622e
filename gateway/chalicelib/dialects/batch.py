"""Several pictures for one call: as many seeds, painted side by side, waited for together.

What every dialect needs that answers with JSON: pictures as base64 inside it, and clients that know
nothing of jobs but follow redirects.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from chalicelib.dialects.not_ready import hop_of, hops_left
from chalicelib.errors import InvalidRequest, StillPainting
from chalicelib.generation import GenerationRequest
from chalicelib.image_files import LARGEST_PICTURE
from chalicelib.images.jobs import Finished, Job
from chalicelib.images.service import Outcome, Painter
from chalicelib.web.request import Visit
from chalicelib.web.response import Answer, see_other

MOST_PICTURES = 4
_MOST_SEEDS = 2**32
# A picture is base64 in the JSON, and the JSON is base64 in Lambda's answer.
LARGEST_TOGETHER = LARGEST_PICTURE // 4 * 3


@dataclass(frozen=True)
class Batch:
    """Pictures that were asked for together.

    Attributes:
        requests: one for each picture, alike but for the seed.
        outcomes: each one's picture, or the job that it is still waiting for.
        names: the ids of their jobs, where a client came back for them by those.
    """

    requests: tuple[GenerationRequest, ...]
    outcomes: tuple[Outcome, ...]
    names: tuple[str, ...] = ()

    @property
    def finished(self) -> tuple[Finished, ...] | None:
        """The pictures, or None while one of them is missing."""
        done = tuple(each for each in self.outcomes if isinstance(each, Finished))
        return done if len(done) == len(self.outcomes) else None


def requests_of(first: GenerationRequest, count: int) -> tuple[GenerationRequest, ...]:
    """Return as many requests, whose seeds count up from that of the first, a complete one."""
    seeds = [((first.seed or 0) + number) % _MOST_SEEDS for number in range(count)]
    return tuple(GenerationRequest.from_dict({**first.to_dict(), "seed": seed}) for seed in seeds)


def count_of(value: object, field: str) -> int:
    """Return how many pictures are wanted; raises InvalidRequest naming `field`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_PICTURES:
        raise InvalidRequest(
            f"{field}: must be a whole number from 1 to {MOST_PICTURES}", field=field
        )
    return value


def check_weight(requests: Sequence[GenerationRequest], field: str, advice: str) -> None:
    """Refuse, before any time on the GPU, what certainly would not fit Lambda's answer.

    A PNG of a picture takes about half of its 3 bytes a pixel; WebP and JPEG take far less.

    Args:
        requests: all of one call.
        field: what to name as the cause.
        advice: what to ask for instead.

    Raises:
        InvalidRequest: if they are too large together.
    """
    first = requests[0]
    if first.format != "png" or first.width is None or first.height is None:
        return
    if len(requests) * first.width * first.height * 3 // 2 > LARGEST_TOGETHER:
        raise InvalidRequest(
            f"{field}: so many PNG pictures of this size do not fit one answer; {advice}",
            field=field,
        )


def fit(pictures: Sequence[Finished]) -> bool:
    """Whether finished pictures fit Lambda's answer together, as base64 inside JSON."""
    together = sum(len(each.body) for each in pictures)
    return together <= LARGEST_TOGETHER and all(each.link is None for each in pictures)


def encoded(picture: Finished) -> str:
    """Return a picture's file in base64."""
    return base64.b64encode(picture.body).decode("ascii")


def begin(painter: Painter, visit: Visit, requests: tuple[GenerationRequest, ...]) -> Batch:
    """Paint them side by side; raises GatewayError if one does not come about."""
    visit.notes.update(model=requests[0].model, pictures=len(requests))
    return Batch(requests, _side_by_side(painter.obtain, visit, requests))


def resume(painter: Painter, visit: Visit, identifiers: str) -> Batch:
    """Go on waiting for the jobs that a redirect of `send_along` names.

    Raises:
        GatewayError: if there are no such jobs, or a picture did not come about.
    """
    names = tuple(identifiers.split(","))
    if len(names) > MOST_PICTURES:
        raise InvalidRequest(f"There are at most {MOST_PICTURES} pictures in one call.")
    outcomes = _side_by_side(painter.revisit, visit, names)
    return Batch(tuple(painter.request_of(name) for name in names), outcomes, names)


def send_along(visit: Visit, batch: Batch, route: str) -> Answer:
    """Send the client to wait for all of its pictures; those that are ready are in S3 by then.

    Args:
        visit: the one to answer.
        batch: an unfinished one.
        route: where `resume` is answered, without the names and with a slash at its end.

    Raises:
        StillPainting: to a client that has followed as many redirects as it will.
    """
    names = batch.names or tuple(each.id for each in batch.outcomes if isinstance(each, Job))
    if len(names) != len(batch.outcomes):
        raise StillPainting("Some of the pictures are not ready yet. Ask for them one by one.")
    here = f"{visit.root}{route}{quote(','.join(names), safe=',')}"
    if hops_left(visit) <= 0:
        raise StillPainting(f"The pictures are not ready yet. They will be at {here}")
    return see_other(f"{here}?hop={hop_of(visit) + 1}")


def _side_by_side(
    work: Callable[[Visit, Any], Outcome], visit: Visit, each: Sequence[Any]
) -> tuple[Outcome, ...]:
    """Do the work for all at once; the first trouble is everybody's."""
    if len(each) == 1:
        return (work(visit, each[0]),)
    with ThreadPoolExecutor(len(each)) as pool:
        begun = [pool.submit(work, visit, one) for one in each]
        return tuple(one.result() for one in begun)
