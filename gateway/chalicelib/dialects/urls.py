"""Easel's own URLs: the prompt is in the path, and the response is the picture itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

from chalicelib.description import Vocabulary
from chalicelib.dialects.calls import calling, report
from chalicelib.dialects.not_ready import not_ready, receipt
from chalicelib.dialects.pricing import price_of
from chalicelib.dialects.prompt_tags import apply_tags, naming_tags
from chalicelib.errors import InvalidRequest
from chalicelib.generation import GenerationRequest
from chalicelib.images.jobs import Finished
from chalicelib.images.prompts import DEFAULT_PROMPT, random_sentence
from chalicelib.images.resolved_request import complete, random_seed
from chalicelib.images.service import Call, ImageService, Outcome
from chalicelib.settings import Settings
from chalicelib.web.body import (
    read_body,
    read_dry_run,
    read_form,
    read_json_object,
    read_query,
)
from chalicelib.web.crawlers import is_crawler
from chalicelib.web.request import Request
from chalicelib.web.response import (
    Response,
    has_tag,
    json_response,
    picture_response,
    preview_response,
    response_without_picture,
    see_other,
)


class _Picture(TypedDict):
    """What `picture_response` reports of a picture."""

    tag: str
    painted: str | None
    lasting: bool


def picture(
    service: ImageService, request: Request, prompt: str, seed: int | None = None
) -> Response:
    """Return the picture of a prompt.

    Args:
        service: generates it.
        request: its query has the contract's other fields.
        prompt: as typed.
        seed: used if the query has none; None for a random one.

    Raises:
        GatewayError: if the request is not valid, or there is no picture.
    """
    with calling(service.settings, request) as call, naming_tags(request.query.get("lora")):
        call.starts_runs = not is_crawler(request)
        # A URL that names its seed always returns the same picture.
        call.names_seed = any(request.query.get("seed", ()))
        generation = apply_tags(read_query(request, prompt))
        resolved = service.resolve(call, generation, seed)
        _log(service, call, resolved.request)
        service.check_prompt(call, resolved.request.prompt)
        if read_dry_run(request):
            return price_of(service, call, [resolved])
        fixed = call.names_seed
        response = response_without_picture(request, resolved.request)
        about: _Picture = {
            "tag": resolved.id,
            "painted": resolved.model.painted(resolved.request),
            "lasting": resolved.changed is None,
        }
        if response is None and fixed and call.starts_runs and has_tag(request, resolved.id):
            response = picture_response(None, resolved.request, fixed=True, **about)
        if response is None:
            outcome = service.generate(call, resolved)
            fixed = fixed or not call.starts_runs
            response = _response(request, outcome, resolved.request, fixed=fixed, about=about)
        return response.with_headers(report(call))


def delete_picture(service: ImageService, request: Request, prompt: str) -> Response:
    """Delete the stored picture of a prompt and a seed.

    Raises:
        GatewayError: if the caller has no key, the request is not valid, or it is not stored.
    """
    with calling(service.settings, request) as call, naming_tags(request.query.get("lora")):
        generation = apply_tags(read_query(request, prompt))
        if generation.seed is None:
            raise InvalidRequest("seed: is needed, since it names the picture", field="seed")
        resolved = service.resolve(call, generation)
        service.remove(call, resolved.id, resolved.request)
        return Response(204, b"")


def delete_default_picture(service: ImageService, request: Request) -> Response:
    """Delete the stored picture of the default prompt, or of the prompt in the query.

    Raises:
        GatewayError: as `delete_picture`.
    """
    return delete_picture(service, *_with_prompt(request))


def default_picture(service: ImageService, request: Request) -> Response:
    """Return the picture of the default prompt, or of the prompt in the query.

    The URLs of prompts that no path can spell (`inference_path`) lead here.

    Raises:
        GatewayError: if the request is not valid, or there is no picture.
    """
    return picture(service, *_with_prompt(request))


def _with_prompt(request: Request) -> tuple[Request, str]:
    prompt = request.parameters().get("prompt", DEFAULT_PROMPT)
    fields = {name: values for name, values in request.query.items() if name != "prompt"}
    return replace(request, query=fields), prompt


def random_picture(service: ImageService, request: Request) -> Response:
    """Return the picture of a random sentence; a browser is redirected to that sentence's own URL.

    A plain HTML form sends its prompt here as a parameter, and is redirected to the prompt's URL.

    Raises:
        GatewayError: if the request is not valid, or there is no picture.
    """
    read_dry_run(request)  # an unusable one is reported before the redirect
    if "prompt" in request.query:
        generation = read_form(request)
        apply_tags(generation)  # what is wrong with them is reported before the redirect
        return see_other(
            request.picture_url(generation.prompt, _url_seed(service.settings, generation))
        )
    generation = read_query(request, DEFAULT_PROMPT)
    seed = _seed_of(generation)
    prompt = random_sentence(seed, _vocabulary(service.settings, generation))
    # The sentence's own URL can be shared, and shows the same picture when it is reloaded.
    if request.is_navigation:
        return see_other(request.picture_url(prompt, _url_seed(service.settings, generation, seed)))
    return picture(service, request, prompt, seed)


def sentence(settings: Settings, request: Request) -> Response:
    """Return the random sentence of a seed, without its picture; raises InvalidRequest."""
    generation = read_query(request, DEFAULT_PROMPT)
    seed = _seed_of(generation)
    # A wrong model has no words; the seed is the sentence's, whatever the model takes.
    complete(settings, replace(generation, seed=None))
    text = random_sentence(seed, _vocabulary(settings, generation))
    return json_response({"sentence": text, "seed": seed})


def submit(service: ImageService, request: Request) -> Response:
    """Queue the request in the body, and return its job.

    Raises:
        GatewayError: if the request is not valid, or cannot be queued.
    """
    with calling(service.settings, request) as call:
        body = read_json_object(request)
        dry_run = read_dry_run(request, body)
        generation = read_body(body)
        with naming_tags(generation.lora):
            resolved = service.resolve(call, apply_tags(generation))
        _log(service, call, resolved.request)
        # A model without a queue is reported before anything about the prompt.
        resolved.require_queue()
        service.check_prompt(call, resolved.request.prompt)
        if dry_run:
            return price_of(service, call, [resolved])
        job = service.enqueue(call, resolved)
        return receipt(request.root, job).with_headers(report(call))


def job(service: ImageService, request: Request, identifier: str) -> Response:
    """Return a job's state; raises JobUnknown."""
    with calling(service.settings, request) as call:
        return receipt(request.root, service.find(call, identifier))


def delete_job(service: ImageService, request: Request, identifier: str) -> Response:
    """Delete a job's picture.

    Raises:
        GatewayError: if the caller has no key, or there is no such job, or no picture of it.
    """
    with calling(service.settings, request) as call:
        service.remove(call, identifier)
        return Response(204, b"")


def job_picture(service: ImageService, request: Request, identifier: str) -> Response:
    """Return a job's picture, and wait for it as long as the request can.

    Raises:
        GatewayError: if there is no such job, or there will be no picture.
    """
    with calling(service.settings, request) as call:
        call.starts_runs = not is_crawler(request)
        job = service.find(call, identifier)
        _log(service, call, job.request)
        response = response_without_picture(request, job.request)
        if response is None:
            outcome = service.wait(call, job)
            about: _Picture = {
                "tag": identifier,
                "painted": service.settings.painted(job.request),
                "lasting": True,
            }
            response = _response(request, outcome, job.request, fixed=True, about=about)
        return response.with_headers(report(call))


def _response(
    request: Request,
    outcome: Outcome,
    generation: GenerationRequest,
    *,
    fixed: bool,
    about: _Picture,
) -> Response:
    if isinstance(outcome, Finished):
        if outcome.link is not None:
            return see_other(outcome.link)
        return picture_response(outcome.body, generation, fixed=fixed, **about)
    if outcome is not None:
        return not_ready(request, outcome)
    return preview_response(request, generation.prompt)


def _log(service: ImageService, call: Call, generation: GenerationRequest) -> None:
    fields = generation.to_dict()
    if not service.settings.log_prompts:
        # Prompts are personal data: they are logged only where a setting says so.
        del fields["prompt"], fields["negative_prompt"]
    call.log.add(**fields)


def _vocabulary(settings: Settings, generation: GenerationRequest) -> Vocabulary | None:
    """Return the words of the model that a request names; an unknown one has none."""
    model = settings.models.get(generation.model or settings.default_model)
    return model.description.vocabulary if model else None


def _url_seed(
    settings: Settings, generation: GenerationRequest, seed: int | None = None
) -> int | None:
    """Return the seed for a picture's URL: the request's own, or one if its model takes any."""
    model = settings.models.get(generation.model or settings.default_model)
    if generation.seed is not None or (model and not model.backend.repeats):
        return generation.seed
    return random_seed() if seed is None else seed


def _seed_of(generation: GenerationRequest) -> int:
    return random_seed() if generation.seed is None else generation.seed
