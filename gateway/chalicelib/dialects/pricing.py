"""The response to a dry run: what a request would cost, whichever API it is one of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chalicelib.aws.parallel import in_parallel
from chalicelib.dialects.calls import report
from chalicelib.generation import GenerationRequest
from chalicelib.images.resolved_request import ResolvedRequest
from chalicelib.images.service import Call, ImageService
from chalicelib.web.response import Response, json_response

_DIGITS = 6  # of a dollar: a millionth


def price_of_all(
    service: ImageService, call: Call, generations: Sequence[GenerationRequest]
) -> Response:
    """Return what the pictures of a call would cost, which differ in the seed; as `price_of`."""
    service.check_prompt(call, generations[0].prompt)
    resolved = [service.resolve(call, generation) for generation in generations]
    return price_of(service, call, resolved)


def price_of(service: ImageService, call: Call, resolved: Sequence[ResolvedRequest]) -> Response:
    """Return what pictures would cost, in JSON. Nothing is generated, and nothing charged.

    Args:
        service: knows the prices.
        call: the caller's.
        resolved: the pictures.

    Raises:
        StoreUnavailable: if S3 does not say whether one is there already.
    """
    described = in_parallel(lambda one: _described(service, call, one), resolved)
    prices = [one["usd"] for one in described]
    total = None if None in prices else round(sum(prices), _DIGITS)
    body = {"dry_run": True, "usd": total, "pictures": described}
    return json_response(body, headers=report(call))


def _described(service: ImageService, call: Call, resolved: ResolvedRequest) -> dict[str, Any]:
    price, exists = service.meter.price(resolved.request), service.exists(call, resolved)
    usd, seconds = (0.0, 0.0) if exists else (price.usd, price.seconds)
    return {
        "model": resolved.model.name,
        "seed": resolved.request.seed,
        "exists": exists,
        "seconds": None if seconds is None else round(seconds, 3),
        "usd": None if usd is None else round(usd, _DIGITS),
    }
