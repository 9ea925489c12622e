"""OpenAI's Images API in front of the painter, as its libraries and chat front ends speak it.

https://platform.openai.com/docs/api-reference/images/create

What OpenAI's models cannot do stands beside the fields that they have: `seed`, `negative_prompt`
and the rest of the contract. Model names of OpenAI's go to the default model, since many programs
send one whatever they are told.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from chalicelib.dialects.batch import (
    Batch,
    begin,
    check_weight,
    count_of,
    encoded,
    fit,
    requests_of,
    resume,
    send_along,
)
from chalicelib.errors import GatewayError, InvalidRequest, NotOffered
from chalicelib.generation import RULES, GenerationRequest, InvalidField
from chalicelib.images.service import Painter
from chalicelib.web.body import read_json_object
from chalicelib.web.request import Visit
from chalicelib.web.response import Answer, json_answer, retry_headers

ROUTE = "/v1/images/generations"
# The model's own steps times this. OpenAI's words say how much is to be spent on a picture; here
# that is how many steps are taken.
QUALITIES = {
    "auto": 1.0,
    "standard": 1.0,
    "low": 0.5,
    "medium": 1.0,
    "high": 1.5,
    "hd": 1.5,
    "xhigh": 2.0,
    "max": 2.0,
}
# A model that was distilled to so few steps paints worse with others, fewer or more.
_FEW_STEPS = 10
_MOST_STEPS = RULES["steps"].describe()["maximum"]
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
# Of OpenAI's own fields, those that say nothing to a diffusion model are taken and left aside; and
# so are those of LobeHub's, which sends what it knows of a model to whatever address.
LEFT_ASIDE = {
    "background", "complexity", "frame_count", "frame_duration_ms", "moderation",
    "output_compression", "partial_images", "safety_identifier", "style", "svg", "user",
    "aspectRatio", "promptExtend", "resolution", "samplerName", "scheduler", "strength",
    "thinkingLevel", "watermark", "webSearch",
}  # fmt: skip
_OWN = {"model", "n", "size", "quality", "response_format", "output_format", "stream"}
_CONTRACT = set(RULES) - {"model", "format"}
_ALIASES = {"cfg": "guidance_scale"}
_ADVICE = "ask for response_format=url, output_format=webp, or fewer"
_OPENAI_CODES = {
    "unauthorized": ("invalid_request_error", "invalid_api_key"),
    "rate_limited": ("requests", "rate_limit_exceeded"),
}


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
    if order.as_url:
        visit.notes.update(model=order.requests[0].model, pictures=len(order.requests))
        return _answer(order.requests, [_link(painter, visit, each) for each in order.requests])
    return _finish(painter, visit, begin(painter, visit, order.requests))


def go_on(painter: Painter, visit: Visit, identifiers: str) -> Answer:
    """Answer a hop of the chain that a call with slow pictures is sent along.

    Raises:
        GatewayError: if there are no such jobs, or a picture did not come about.
    """
    return _finish(painter, visit, resume(painter, visit, identifiers))


def models(names: Sequence[str]) -> Answer:
    """Answer `GET /v1/models`."""
    return json_answer({"object": "list", "data": [_described(name) for name in names]})


def model(names: Sequence[str], name: str) -> Answer:
    """Answer `GET /v1/models/{name}`; raises NotOffered if there is no such model."""
    if name not in names:
        raise NotOffered(f"There is no such model; there are {', '.join(names)}.")
    return json_answer(_described(name))


def edit() -> Answer:
    """Refuse what OpenAI's API does with pictures that are there already; raises NotOffered."""
    raise NotOffered("Pictures are made from words alone here: use /v1/images/generations.")


def _described(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "easel"}


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
    data = _without_aliases(data)
    first = _request(data)
    named = first.model if first.model in painter.models else None
    first = painter.complete(GenerationRequest.from_dict({**first.to_dict(), "model": named}))
    first = _with_quality(painter, first, _choice(data, "quality", tuple(QUALITIES)))
    requests = requests_of(first, count_of(data.get("n", 1), "n"))
    as_url = _choice(data, "response_format", ("b64_json", "url")) == "url"
    if not as_url:
        check_weight(requests, "n", _ADVICE)
    return Order(requests, as_url)


def _with_quality(painter: Painter, request: GenerationRequest, quality: str) -> GenerationRequest:
    """Return the request with as many steps as a quality stands for, unless it names them."""
    own = painter.defaults(request).get("steps")
    share = QUALITIES[quality]
    if own is None or own <= _FEW_STEPS or share == 1:
        return request
    return request.complete(steps=min(round(own * share), _MOST_STEPS))


def _check_fields(data: dict[str, Any]) -> None:
    for name in data:
        if name not in {*_CONTRACT, *_OWN, *LEFT_ASIDE, *_ALIASES}:
            raise InvalidRequest(f"{name[:64]}: is not a field", field=name[:64])
    if data.get("stream", False) is not False:
        raise InvalidRequest("stream: is not offered; leave it out", field="stream")


def _without_aliases(data: dict[str, Any]) -> dict[str, Any]:
    for alias, name in _ALIASES.items():
        if alias in data and name in data:
            raise InvalidRequest(f"{alias}: is the same as {name}; give one of them", field=alias)
    return {_ALIASES.get(name, name): value for name, value in data.items()}


def _request(data: dict[str, Any]) -> GenerationRequest:
    given = {name: data[name] for name in _CONTRACT & set(data)}
    given |= _sides(data.get("size", "auto"))
    given["format"] = _choice(data, "output_format", ("png", "webp", "jpeg"))
    model = data.get("model", "")
    if not isinstance(model, str):
        raise InvalidRequest("model: must be text", field="model")
    if _is_name(model):
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


def _choice(data: dict[str, Any], name: str, choices: tuple[str, ...]) -> str:
    value = data.get(name, choices[0])
    if value not in choices:
        raise InvalidRequest(f"{name}: must be one of {', '.join(choices)}", field=name)
    return str(value)


# --- Answering ------------------------------------------------------------------------------------


def _finish(painter: Painter, visit: Visit, batch: Batch) -> Answer:
    finished = batch.finished
    if finished is None:
        return send_along(visit, batch, f"{ROUTE}/")
    whole = fit(finished)
    tokens = [painter.token_for(visit, request) for request in batch.requests]
    data = [
        _data(request, {"b64_json": encoded(each)})
        if whole
        else _data(request, {"url": each.link or _picture_url(visit, request, token)})
        for request, each, token in zip(batch.requests, finished, tokens, strict=True)
    ]
    return _answer(batch.requests, data)


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
