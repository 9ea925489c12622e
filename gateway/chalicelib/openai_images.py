"""OpenAI's Images API in front of the painter, as its libraries and chat front ends speak it.

https://platform.openai.com/docs/api-reference/images/create

What OpenAI's models cannot do stands beside the fields that they have: `seed`, `negative_prompt`
and the rest of the contract. Model names of OpenAI's go to the default model, since many programs
send one whatever they are told.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from chalicelib.answers import Answer, json_answer, retry_headers, see_other
from chalicelib.errors import GatewayError, InvalidRequest, StillPainting
from chalicelib.generation import RULES, GenerationRequest, InvalidField
from chalicelib.jobs import Finished, Job
from chalicelib.painting import Outcome, Painter, read_json_object
from chalicelib.patience import hop_of, hops_left
from chalicelib.pictures import LARGEST_PICTURE
from chalicelib.visits import Visit

MOST_PICTURES = 4
_MOST_SEEDS = 2**32
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
# Of OpenAI's own fields, those that say nothing to a diffusion model are taken and left aside.
_LEFT_ASIDE = {
    "background", "complexity", "frame_count", "frame_duration_ms", "moderation",
    "output_compression", "partial_images", "quality", "safety_identifier", "style", "svg", "user",
}  # fmt: skip
_OWN = {"model", "n", "size", "response_format", "output_format", "stream"}
_CONTRACT = set(RULES) - {"model", "format"}
_OPENAI_CODES = {
    "unauthorized": ("invalid_request_error", "invalid_api_key"),
    "rate_limited": ("requests", "rate_limit_exceeded"),
}
# A picture is base64 in the JSON, and the JSON is base64 in Lambda's answer.
_LARGEST_TOGETHER = LARGEST_PICTURE // 4 * 3


@dataclass(frozen=True)
class Order:
    """A call of `images.generate`, read and checked.

    Attributes:
        requests: one for each picture, alike but for the seed.
        as_url: whether URLs are wanted in place of base64.
    """

    requests: tuple[GenerationRequest, ...]
    as_url: bool


def generate(painter: Painter, visit: Visit) -> Answer:
    """Answer `POST /v1/images/generations`.

    Raises:
        GatewayError: if the call is not valid, or a picture did not come about.
    """
    order = read_order(painter, visit)
    visit.notes.update(model=order.requests[0].model, pictures=len(order.requests))
    if order.as_url:
        return _answer(order.requests, [_link(painter, visit, each) for each in order.requests])
    return _finish(
        painter, visit, order.requests, _side_by_side(painter.obtain, visit, order.requests)
    )


def resume(painter: Painter, visit: Visit, identifiers: str) -> Answer:
    """Answer a hop of the chain that a call with slow pictures is sent along.

    Raises:
        GatewayError: if there are no such jobs, or a picture did not come about.
    """
    jobs = identifiers.split(",")
    if len(jobs) > MOST_PICTURES:
        raise InvalidRequest("n: is at most 4", field="n")
    outcomes = _side_by_side(painter.revisit, visit, jobs)
    requests = [painter.request_of(identifier) for identifier in jobs]
    return _finish(painter, visit, requests, outcomes, jobs)


def models(names: Sequence[str]) -> Answer:
    """Answer `GET /v1/models`."""
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "easel"} for name in names]
    return json_answer({"object": "list", "data": data})


def problem(error: GatewayError, request_id: str) -> Answer:
    """Return an error in OpenAI's shape, from which its libraries make their exceptions."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    # OpenAI has words of its own for these two.
    kind, code = _OPENAI_CODES.get(error.code, (kind, error.code))
    described = {"message": error.message, "type": kind, "param": error.field, "code": code}
    answer = json_answer({"error": described}, error.status)
    headers = {**answer.headers, "x-request-id": request_id, **retry_headers(error)}
    return Answer(answer.status, answer.body, headers)


# --- Reading --------------------------------------------------------------------------------------


def read_order(painter: Painter, visit: Visit) -> Order:
    """Read the body of a call; raises InvalidRequest naming the first field that is wrong."""
    given = read_json_object(visit)
    data = {name: value for name, value in given.items() if value is not None}
    _check_fields(data)
    first = _request(data)
    named = first.model if first.model in painter.models else None
    first = painter.complete(GenerationRequest.from_dict({**first.to_dict(), "model": named}))
    count = _count(data)
    seeds = [((first.seed or 0) + number) % _MOST_SEEDS for number in range(count)]
    requests = tuple(
        GenerationRequest.from_dict({**first.to_dict(), "seed": seed}) for seed in seeds
    )
    as_url = _choice(data, "response_format", ("b64_json", "url")) == "url"
    if not as_url:
        _check_weight(requests)
    return Order(requests, as_url)


def _check_fields(data: dict[str, Any]) -> None:
    for name in data:
        if name not in _CONTRACT | _OWN | _LEFT_ASIDE:
            raise InvalidRequest(f"{name[:64]}: is not a field", field=name[:64])
    if data.get("stream") not in {None, False}:
        raise InvalidRequest("stream: is not offered; leave it out", field="stream")


def _request(data: dict[str, Any]) -> GenerationRequest:
    given = {name: data[name] for name in _CONTRACT & set(data)}
    given |= _sides(data.get("size", "auto"))
    given["format"] = _choice(data, "output_format", ("png", "webp", "jpeg"))
    model = data.get("model")
    if isinstance(model, str) and _is_name(model):
        given["model"] = model
    try:
        return GenerationRequest.from_dict(given)
    except InvalidField as error:
        side = "size" if error.field in {"width", "height"} and "size" in data else error.field
        raise InvalidRequest(str(error), field=side) from error


def _is_name(model: str) -> bool:
    try:
        RULES["model"].clean(model)
    except ValueError:
        return False
    return True


def _sides(size: object) -> dict[str, int]:
    if size == "auto":
        return {}
    found = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if found is None:
        raise InvalidRequest("size: must be auto or WIDTHxHEIGHT, such as 512x512", field="size")
    return {"width": int(found[1]), "height": int(found[2])}


def _count(data: dict[str, Any]) -> int:
    count = data.get("n", 1)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_PICTURES:
        raise InvalidRequest(f"n: must be a whole number from 1 to {MOST_PICTURES}", field="n")
    return count


def _choice(data: dict[str, Any], name: str, choices: tuple[str, ...]) -> str:
    value = data.get(name, choices[0])
    if value not in choices:
        raise InvalidRequest(f"{name}: must be one of {', '.join(choices)}", field=name)
    return str(value)


def _check_weight(requests: tuple[GenerationRequest, ...]) -> None:
    """Refuse, before any time on the GPU, what certainly would not fit Lambda's answer.

    A PNG of a picture takes about half of its 3 bytes a pixel; WebP and JPEG take far less.
    """
    first = requests[0]
    if first.format != "png" or first.width is None or first.height is None:
        return
    if len(requests) * first.width * first.height * 3 // 2 > _LARGEST_TOGETHER:
        raise InvalidRequest(
            "n: so many PNG pictures of this size do not fit one answer; ask for"
            " response_format=url, output_format=webp, or fewer",
            field="n",
        )


# --- Painting and answering -----------------------------------------------------------------------


def _side_by_side(work: Any, visit: Visit, each: Sequence[Any]) -> list[Outcome]:
    """Do the work for all at once; the first trouble is everybody's."""
    if len(each) == 1:
        return [work(visit, each[0])]
    with ThreadPoolExecutor(len(each)) as pool:
        begun = [pool.submit(work, visit, one) for one in each]
        return [one.result() for one in begun]


def _finish(
    painter: Painter,
    visit: Visit,
    requests: Sequence[GenerationRequest],
    outcomes: Sequence[Outcome],
    known: Sequence[str] = (),
) -> Answer:
    waiting = [outcome for outcome in outcomes if isinstance(outcome, Job)]
    if waiting:
        return _send_along(visit, outcomes, known)
    finished = [outcome for outcome in outcomes if isinstance(outcome, Finished)]
    together = sum(len(each.body) for each in finished)
    fits = together <= _LARGEST_TOGETHER and all(each.link is None for each in finished)
    tokens = (painter.token_for(visit, request) for request in requests)
    pairs = zip(requests, finished, tokens, strict=True)
    data = [
        _data(request, {"b64_json": base64.b64encode(each.body).decode()})
        if fits
        else _data(request, {"url": each.link or _picture_url(visit, request, token)})
        for request, each, token in pairs
    ]
    return _answer(requests, data)


def _send_along(visit: Visit, outcomes: Sequence[Outcome], known: Sequence[str]) -> Answer:
    """Send the client to wait for all of its pictures; those that are ready are in S3 by then."""
    names = list(known) or [each.id for each in outcomes if isinstance(each, Job)]
    if len(names) != len(outcomes):
        raise StillPainting("Some of the pictures are not ready yet. Ask for them one by one.")
    here = f"{visit.root}/v1/images/generations/{quote(','.join(names), safe=',')}"
    if hops_left(visit) <= 0:
        raise StillPainting(f"The pictures are not ready yet. They will be at {here}")
    return see_other(f"{here}?hop={hop_of(visit) + 1}")


def _link(painter: Painter, visit: Visit, request: GenerationRequest) -> dict[str, Any]:
    """Return where a picture will be: it is painted, or waited for, when it is fetched."""
    painter.check_prompt(visit, request)
    token = painter.token_for(visit, request)
    if painter.is_queued(request):
        job = painter.enqueue(visit, request)
        url = f"{visit.origin}{visit.root}/jobs/{job.id}/image"
        return _data(request, {"url": f"{url}?link={token}" if token else url})
    return _data(request, {"url": _picture_url(visit, request, token)})


def _picture_url(visit: Visit, request: GenerationRequest, token: str | None) -> str:
    fields = {name: value for name, value in request.to_dict().items() if value != ""}
    if token:
        fields["link"] = token
    prompt = quote(fields.pop("prompt"), safe="")
    query = urlencode(fields, quote_via=quote)
    return f"{visit.origin}{visit.root}/inference/{prompt}?{query}"


def _data(request: GenerationRequest, picture: dict[str, Any]) -> dict[str, Any]:
    return {**picture, "seed": request.seed}


def _answer(requests: Sequence[GenerationRequest], data: list[dict[str, Any]]) -> Answer:
    first = requests[0]
    answered: dict[str, Any] = {
        "created": int(time.time()),
        "data": data,
        "model": first.model,
        "output_format": first.format,
    }
    if first.width is not None and first.height is not None:
        answered["size"] = f"{first.width}x{first.height}"
    return json_answer(answered)
