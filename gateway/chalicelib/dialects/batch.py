"""Several pictures for one call: consecutive seeds, generated in parallel, waited for together.

What the dialects share whose responses are JSON: pictures as base64 inside it, and clients that do
not know jobs but follow redirects.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from chalicelib.aws.parallel import in_parallel
from chalicelib.errors import InvalidRequest, StillPainting
from chalicelib.generation import GenerationRequest, Whole
from chalicelib.image_files import LARGEST_PICTURE, compressed
from chalicelib.images.jobs import Finished, Job
from chalicelib.images.service import Call, ImageService, Outcome
from chalicelib.web.body import read_whole
from chalicelib.web.request import Request
from chalicelib.web.response import Response, next_hop

MOST_PICTURES = 4
_COUNT = Whole("How many pictures.", 1, MOST_PICTURES)
_MOST_SEEDS = 2**32
# A picture is base64 in the JSON, and the JSON is base64 in Lambda's response.
LARGEST_TOGETHER = LARGEST_PICTURE // 4 * 3


@dataclass(frozen=True)
class Batch:
    """Pictures that were requested together.

    Attributes:
        generations: one request for each picture; they differ in the seed.
        ids: the ids of the pictures.
        outcomes: each one's picture, or the job that it is still waiting for.
        is_stored: whether the URL of a job leads to every picture.
        is_compressed: whether their backends compress PNG files.
    """

    generations: tuple[GenerationRequest, ...]
    ids: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    is_stored: bool
    is_compressed: bool = True

    @property
    def finished(self) -> tuple[Finished, ...] | None:
        """The pictures, or None while one of them is missing; compressed if they have to be."""
        done = tuple(outcome for outcome in self.outcomes if isinstance(outcome, Finished))
        if len(done) < len(self.outcomes):
            return None
        return done if self.is_compressed else fitting(done)


def with_seeds(first: GenerationRequest, count: int) -> tuple[GenerationRequest, ...]:
    """Return `count` requests, whose seeds count up from that of the first, a complete one.

    A model that takes no seed gets the same request for each picture.
    """
    if first.seed is None:
        return (first,) * count
    seeds = [(first.seed + number) % _MOST_SEEDS for number in range(count)]
    return tuple(GenerationRequest.from_dict({**first.to_dict(), "seed": seed}) for seed in seeds)


def read_count(value: object, field: str) -> int:
    """Return the number of pictures; raises InvalidRequest naming `field`."""
    return read_whole(value, field, _COUNT)


def check_weight(generations: Sequence[GenerationRequest], field: str, advice: str) -> None:
    """Refuse, before any GPU time, pictures that certainly would not fit Lambda's response.

    A PNG takes about half of its 3 bytes per pixel; WebP and JPEG take far less.

    Args:
        generations: all of one call.
        field: to name as the cause.
        advice: what to request instead.

    Raises:
        InvalidRequest: if they are too large together.
    """
    first = generations[0]
    if first.file_format != "png" or first.width is None or first.height is None:
        return
    if len(generations) * first.width * first.height * 3 // 2 > LARGEST_TOGETHER:
        # Fewer than one cannot be requested.
        what, cause, fewer = (
            ("a PNG picture of this size does", "width", "a smaller one")
            if len(generations) == 1
            else ("this many PNG pictures of this size do", field, "fewer")
        )
        raise InvalidRequest(
            f"{cause}: {what} not fit one response; request {fewer}, or {advice}", field=cause
        )


def fitting(pictures: tuple[Finished, ...]) -> tuple[Finished, ...]:
    """Return finished pictures with compressed pixels, if they do not fit one response as they are.

    Some servers write PNG files without compression.
    """
    if fit(pictures):
        return pictures
    return tuple(replace(picture, body=compressed(picture.body)) for picture in pictures)


def fit(pictures: Sequence[Finished]) -> bool:
    """Whether finished pictures fit Lambda's response together, as base64 inside JSON."""
    together = sum(len(picture.body) for picture in pictures)
    return together <= LARGEST_TOGETHER and all(picture.link is None for picture in pictures)


def encoded(picture: Finished) -> str:
    """Return a picture's file in base64."""
    return base64.b64encode(picture.body).decode("ascii")


def generate_batch(
    service: ImageService, call: Call, generations: tuple[GenerationRequest, ...]
) -> Batch:
    """Generate pictures in parallel.

    Args:
        service: generates them.
        call: pays and waits.
        generations: complete requests that differ in the seed.

    Raises:
        GatewayError: the first one, if a picture fails.
    """
    call.log.add(model=generations[0].model, pictures=len(generations))
    # The requests differ in the seed only, so one check is enough.
    service.check_prompt(call, generations[0].prompt)
    resolved = [service.resolve(call, generation) for generation in generations]
    outcomes = in_parallel(lambda one: service.generate(call, one), resolved)
    is_stored = all(
        isinstance(outcome, Job) or one.model.endpoint is None or service.stores(call, one)
        for one, outcome in zip(resolved, outcomes, strict=True)
    )
    ids = tuple(one.id for one in resolved)
    return Batch(generations, ids, outcomes, is_stored, _are_compressed(service, generations))


def resume_batch(service: ImageService, call: Call, identifiers: str) -> Batch:
    """Continue to wait for the jobs that a redirect of `redirect_to_pending` names.

    Raises:
        GatewayError: if there are no such jobs, or a picture failed.
    """
    ids = tuple(identifiers.split(","))
    if len(ids) > MOST_PICTURES:
        raise InvalidRequest(f"A call has at most {MOST_PICTURES} pictures.")

    def wait(identifier: str) -> tuple[GenerationRequest, Outcome]:
        job = service.find(call, identifier)
        return job.request, service.wait(call, job)

    pairs = in_parallel(wait, ids)
    generations, outcomes = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
    is_compressed = _are_compressed(service, generations)
    return Batch(generations, ids, outcomes, is_stored=True, is_compressed=is_compressed)


def _are_compressed(service: ImageService, generations: Sequence[GenerationRequest]) -> bool:
    backends = [service.settings.models[str(one.model)].backend for one in generations]
    return all(backend.abilities.compressed for backend in backends)


def redirect_to_pending(request: Request, batch: Batch, route: str) -> Response:
    """Redirect the client to a URL that waits for all pictures of an unfinished batch.

    Args:
        request: the one to respond to.
        batch: its finished pictures are in S3.
        route: the URL of `resume_batch`, without the ids and with a slash at its end.

    Raises:
        StillPainting: for a client that has followed as many redirects as it will.
    """
    # Without a named seed, a picture of a real-time endpoint is stored nowhere.
    if not batch.is_stored:
        raise StillPainting("Some of the pictures are not ready yet. Request them one by one.")
    url = f"{request.root}{route}{quote(','.join(batch.ids), safe=',')}"
    return next_hop(request, url, f"The pictures are not ready yet. They will be at {url}")
