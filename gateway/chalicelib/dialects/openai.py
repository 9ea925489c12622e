"""OpenAI's Images API, as its libraries and chat front ends use it.

https://platform.openai.com/docs/api-reference/images/create

Fields that OpenAI's models do not have are accepted next to its own: `seed`, `negative_prompt` and
the rest of the contract. OpenAI's model names select the default model, since many programs send
one whatever they are configured to.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chalicelib.access_settings import Protection
from chalicelib.auth.authenticate import picture_token
from chalicelib.batches.openai import (
    QUALITIES,
    check_fields,
    choice,
    read_generation,
    side_step,
    steps_of,
    their_name,
)
from chalicelib.dialects.batch import (
    Batch,
    check_weight,
    encoded,
    fit,
    generate_batch,
    read_count,
    redirect_to_pending,
    resume_batch,
    with_seeds,
)
from chalicelib.dialects.calls import calling, report
from chalicelib.dialects.not_ready import image_url
from chalicelib.dialects.pricing import price_of_all
from chalicelib.dialects.prompt_tags import naming_tags
from chalicelib.errors import BillFault, GatewayError, InvalidRequest, NotOffered, PictureTooLarge
from chalicelib.generation import GenerationRequest
from chalicelib.images.jobs import Finished
from chalicelib.images.resolved_request import complete
from chalicelib.images.service import Call, ImageService
from chalicelib.web.body import named_fields, read_dry_run, read_json_object
from chalicelib.web.request import Request, inference_path
from chalicelib.web.response import (
    Response,
    error_headers,
    json_response,
    message_of,
    painted_header,
)

ROUTE = "/v1/images/generations"
_ADVICE = "set response_format=url or output_format=webp"
_OPENAI_CODES = {
    "unauthorized": ("invalid_request_error", "invalid_api_key"),
    "rate_limited": ("requests", "rate_limit_exceeded"),
}


@dataclass(frozen=True)
class ImagesRequest:
    """A call of `images.generate`, read and checked.

    Attributes:
        generations: one request for each picture; they differ in the seed.
        as_url: whether the response has URLs in place of base64.
        names_seed: whether the call has a seed.
    """

    generations: tuple[GenerationRequest, ...]
    as_url: bool
    names_seed: bool


def generate(service: ImageService, request: Request) -> Response:
    """Handle `POST /v1/images/generations`.

    Raises:
        GatewayError: if the request is not valid, or a picture failed.
    """
    body = read_json_object(request)
    dry_run = read_dry_run(request, body)
    images = read_images_request(service, body)
    with calling(service.settings, request) as call, naming_tags(body.get("lora")):
        call.names_seed = images.names_seed
        if dry_run:
            return price_of_all(service, call, images.generations)
        if images.as_url:
            data = _urls(service, call, request, images.generations)
            return _response(service, images.generations, data).with_headers(report(call))
        batch = generate_batch(service, call, images.generations)
        return _finish(service, request, batch).with_headers(report(call))


def resume(service: ImageService, request: Request, identifiers: str) -> Response:
    """Handle a redirect of a call whose pictures were not ready.

    Raises:
        GatewayError: if there are no such jobs, or a picture failed.
    """
    with calling(service.settings, request) as call:
        batch = resume_batch(service, call, identifiers)
        return _finish(service, request, batch).with_headers(report(call))


def models(names: Sequence[str]) -> Response:
    """Handle `GET /v1/models`."""
    return json_response({"object": "list", "data": [_described(name) for name in names]})


def model(names: Sequence[str], name: str) -> Response:
    """Handle `GET /v1/models/{name}`; raises NotOffered for an unknown model."""
    if name not in names:
        raise NotOffered(f"Unknown model; the models are {', '.join(names)}.")
    return json_response(_described(name))


def edit() -> Response:
    """Refuse the operations that start from a picture; raises NotOffered."""
    raise NotOffered("Only text to image is supported: use /v1/images/generations.")


def _described(name: str) -> dict[str, Any]:
    # OpenAI's schema requires a date of creation; a model here has none.
    return {"id": name, "object": "model", "created": 0, "owned_by": "easel"}


def render_error(error: GatewayError, request: Request) -> Response:
    """Return an error in OpenAI's format, from which its libraries make their exceptions."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    kind = "insufficient_quota" if isinstance(error, BillFault) else kind
    # OpenAI has codes of its own for these two.
    kind, code = _OPENAI_CODES.get(error.code, (kind, error.code))
    message = message_of(error, request)
    if code == "invalid_api_key" and {"authorization", "x-api-key"} & set(request.headers):
        # OpenAI's words, in which LiteLLM and others recognise a wrong key.
        message = f"Incorrect API key provided. {message}"
    described = {"message": message, "type": kind, "param": error.field, "code": code}
    response = json_response({"error": described}, error.status)
    # OpenAI's libraries show this header's value as the error's `request_id`.
    return response.with_headers(
        {"x-request-id": request.request_id, **error_headers(error, request)}
    )


# --- Reading --------------------------------------------------------------------------------------


def read_images_request(service: ImageService, body: dict[str, Any]) -> ImagesRequest:
    """Read the body of a call; raises InvalidRequest naming the first field that is wrong."""
    with named_fields():
        data = check_fields(body)
        if str(data.get("model", "")).startswith("dall-e"):
            # The default of these models, on which their clients rely without sending it.
            data.setdefault("response_format", "url")
        models = service.settings.models
        name = data.get("model")
        is_offered = isinstance(name, str) and name in models
        model = models[str(name) if is_offered else service.settings.default_model]
        first = read_generation(data, side_step(model.limits))
    # An unknown name is most often one of OpenAI's, such as `gpt-image-1`.
    first = GenerationRequest.from_dict({**first.to_dict(), "model": model.name})
    names_seed = first.seed is not None
    with named_fields():
        quality = choice(data, "quality", tuple(QUALITIES))
        # base64 is the default of OpenAI's gpt-image models, which have no URLs.
        as_url = choice(data, "response_format", ("b64_json", "url")) == "url"
    first = _with_quality(service, first, quality)
    try:
        first = complete(service.settings, first)
    except InvalidRequest as error:
        field = error.field and their_name(error.field, data)
        message = error.message
        if error.field and message.startswith(f"{error.field}: "):
            message = f"{field}{message[len(error.field) :]}"
        raise InvalidRequest(message, field=field) from error
    generations = with_seeds(first, read_count(data.get("n", 1), "n"))
    if not as_url:
        check_weight(generations, "n", _ADVICE)
    return ImagesRequest(generations, as_url, names_seed)


def _with_quality(
    service: ImageService, generation: GenerationRequest, quality: str
) -> GenerationRequest:
    """Return the request with the number of steps of a quality, unless it has one.

    Raises:
        InvalidRequest: naming `quality`, if the model's backend takes no number of steps.
    """
    model = service.settings.models[generation.model or service.settings.default_model]
    if "steps" in model.backend.missing and QUALITIES[quality] != 1:
        message = (
            f"quality: must be auto for the model {model.name}: its backend,"
            f" {model.backend.title}, takes no number of steps"
        )
        raise InvalidRequest(message, field="quality")
    return generation.complete(
        steps=steps_of(quality, model.defaults.get("steps"), model.rules.get("steps"))
    )


# --- Responding -----------------------------------------------------------------------------------


def _finish(service: ImageService, request: Request, batch: Batch) -> Response:
    finished = batch.finished
    if finished is None:
        return redirect_to_pending(request, batch, f"{ROUTE}/")
    pairs = tuple(zip(batch.generations, finished, strict=True))
    # Lambda's response has a limit; URLs are the only way around it.
    if fit(finished):
        pictures = [{"b64_json": encoded(picture)} for picture in finished]
    elif not batch.is_stored and any(_has_no_url(*pair) for pair in pairs):
        raise PictureTooLarge(
            f"The pictures together do not fit one response; request fewer, or {_ADVICE}."
        )
    else:
        rows = zip(batch.generations, batch.ids, finished, strict=True)
        protection = service.settings.protection
        pictures = [{"url": _finished_url(protection, request, *row)} for row in rows]
    data = [_data(*pair) for pair in zip(batch.generations, pictures, strict=True)]
    return _response(service, batch.generations, data)


def _has_no_url(generation: GenerationRequest, picture: Finished) -> bool:
    """Whether a picture that is not stored cannot be repeated either."""
    return generation.seed is None and picture.link is None


def _finished_url(
    protection: Protection,
    request: Request,
    generation: GenerationRequest,
    identifier: str,
    picture: Finished,
) -> str:
    if picture.link is not None:
        return picture.link
    token = picture_token(protection, request, identifier)
    if generation.seed is None:
        return _job_url(request, identifier, token)
    return _picture_url(request, generation, token)


def _urls(
    service: ImageService,
    call: Call,
    request: Request,
    generations: Sequence[GenerationRequest],
) -> list[dict[str, Any]]:
    """Return the pictures' URLs. A picture is generated when its URL is fetched, or queued now."""
    call.log.add(model=generations[0].model, pictures=len(generations))
    service.check_prompt(call, generations[0].prompt)
    data = []
    for generation in generations:
        resolved = service.resolve(call, generation)
        is_real_time = resolved.model.endpoint is not None
        named = resolved.link_id if is_real_time else resolved.id
        # The pictures of one call without a seed have the same id, and each its own URL.
        one = "" if resolved.id == resolved.link_id else resolved.id[-8:]
        token = picture_token(service.settings.protection, request, named, one)
        if is_real_time:
            url = _picture_url(request, generation, token)
        else:
            url = _job_url(request, service.enqueue(call, resolved).id, token)
        data.append(_data(generation, {"url": url}))
    return data


def _job_url(request: Request, identifier: str, token: str | None) -> str:
    url = f"{request.origin}{image_url(request.root, identifier)}"
    return f"{url}?link={token}" if token else url


def _picture_url(request: Request, generation: GenerationRequest, token: str | None) -> str:
    fields = {name: value for name, value in generation.to_dict().items() if value != ""}
    if token:
        fields["link"] = token
    prompt = fields.pop("prompt")
    return f"{request.origin}{request.root}/{inference_path(prompt, fields)}"


def _data(generation: GenerationRequest, picture: dict[str, Any]) -> dict[str, Any]:
    return picture if generation.seed is None else {**picture, "seed": generation.seed}


def _response(
    service: ImageService,
    generations: Sequence[GenerationRequest],
    data: list[dict[str, Any]],
) -> Response:
    first = generations[0]
    painted = service.settings.painted(first)
    body: dict[str, Any] = {
        "created": int(time.time()),
        "data": data,
        "model": first.model,
        "output_format": first.file_format,
    }
    if first.width is not None and first.height is not None:
        body["size"] = f"{first.width}x{first.height}"
    if painted:
        body["painted_size"] = painted
    return json_response(body, headers=painted_header(painted))
