"""The API of AUTOMATIC1111's web UI: text to image.

https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/API

`batches/automatic1111.py` reads the fields, and says which are refused. What is ignored of how the
web UI samples, `info` reports as it was done (sampler, schedule, CLIP skip).
`automatic1111_lists` has the responses to what clients ask before they generate.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.batches.automatic1111 import (
    FIELDS,
    FORMATS,
    read_generation,
    refuse,
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
from chalicelib.dialects.infotext import infotext, lora_tags, setting, size_of
from chalicelib.dialects.pricing import price_of_all
from chalicelib.errors import GatewayError, InvalidRequest, PictureTooLarge
from chalicelib.generation import GenerationRequest
from chalicelib.images.resolved_request import complete
from chalicelib.images.service import ImageService
from chalicelib.web.body import named_fields, read_dry_run, read_json_object
from chalicelib.web.request import Request
from chalicelib.web.response import (
    Response,
    error_headers,
    json_response,
    message_of,
    painted_header,
)

ROUTE = "/sdapi/v1/txt2img"
# Each model uses the scheduler that it was trained for or came with.
SAMPLER = "Automatic"
# The web UI's own, reported where neither the file nor the model states one.
_DEFAULTS = {"steps": 20, "guidance_scale": 7.0, "width": 512, "height": 512}
# What the web UI always reports, with the values of a picture without these features. Strict
# clients refuse an `info` without them.
_ALWAYS = {
    "subseed": 0,
    "subseed_strength": 0,
    "restore_faces": False,
    "sd_model_hash": "",
    "sd_vae_name": "",
    "sd_vae_hash": "",
    "seed_resize_from_w": -1,
    "seed_resize_from_h": -1,
    "denoising_strength": 0,
    "extra_generation_params": {},
    "clip_skip": 1,
    "is_using_inpainting_conditioning": False,
}
_ADVICE = 'set override_settings {"samples_format": "webp"}'


@dataclass(frozen=True)
class Txt2ImgRequest:
    """A call of `txt2img`, read and checked.

    Attributes:
        generations: one request for each picture; they differ in the seed.
        names_seed: whether the call has a seed, and not -1.
    """

    generations: tuple[GenerationRequest, ...]
    names_seed: bool


def generate(service: ImageService, request: Request) -> Response:
    """Handle `POST /sdapi/v1/txt2img`.

    Raises:
        GatewayError: if the request is not valid, or a picture failed.
    """
    body = read_json_object(request)
    dry_run = read_dry_run(request, body)
    asked = read_txt2img(service, body)
    with calling(service.settings, request) as call:
        call.names_seed = asked.names_seed
        if dry_run:
            return price_of_all(service, call, asked.generations)
        batch = generate_batch(service, call, asked.generations)
        return _finish(service, request, batch).with_headers(report(call))


def resume(service: ImageService, request: Request, identifiers: str) -> Response:
    """Handle a redirect of a call whose pictures were not ready.

    Raises:
        GatewayError: if there are no such jobs, or a picture failed.
    """
    with calling(service.settings, request) as call:
        batch = resume_batch(service, call, identifiers)
        return _finish(service, request, batch).with_headers(report(call))


def render_error(error: GatewayError, request: Request) -> Response:
    """Return an error in the web UI's formats: FastAPI's for a bad field, its own for the rest."""
    if isinstance(error, InvalidRequest):
        field = error.field and their_name(error.field)  # the model server says `lora`
        message = error.message
        if error.field and field != error.field and message.startswith(f"{error.field}: "):
            message = f"{field}{message[len(error.field) :]}"
        location = ["body", field] if field else ["body"]
        detail = {"loc": location, "msg": message, "type": "value_error"}
        response = json_response({"detail": [detail]}, 422)
    else:
        # The members of the web UI's own exception handler.
        message = message_of(error, request)
        body = {"error": error.code, "detail": message, "body": "", "errors": message}
        response = json_response(body, error.status)
    return response.with_headers(
        {"x-request-id": request.request_id, **error_headers(error, request)}
    )


# --- Reading --------------------------------------------------------------------------------------


def read_txt2img(service: ImageService, body: dict[str, Any]) -> Txt2ImgRequest:
    """Read the body of a call; raises InvalidRequest naming the first field that is wrong."""
    data = {name: value for name, value in body.items() if value is not None}
    with named_fields():
        refuse(data)
    settings = _settings(data)
    asked = settings.get("samples_format")
    file_format = None if asked is None else FORMATS[asked.lower()]
    with named_fields():
        first = read_generation(data, file_format)
    checkpoint = settings.get("sd_model_checkpoint")
    # The web UI, too, uses its default for an unknown checkpoint: `info` names the model used.
    model = checkpoint if checkpoint in list(service.settings.models) else None
    first = GenerationRequest.from_dict({**first.to_dict(), "model": model})
    names_seed = first.seed is not None
    first = complete(service.settings, first)
    generations = with_seeds(first, _count(data))
    check_weight(generations, "batch_size", _ADVICE)
    return Txt2ImgRequest(generations, names_seed)


def _settings(data: Mapping[str, Any]) -> dict[str, Any]:
    field = "override_settings"
    settings = data.get(field)
    settings = {} if settings in (None, []) else settings  # PHP writes an empty object as a list
    if not isinstance(settings, dict):
        raise InvalidRequest(f"{field}: must be an object", field=field)
    settings = {name: value for name, value in settings.items() if value is not None}
    if not isinstance(settings.get("sd_model_checkpoint", ""), str):
        raise InvalidRequest(f"{field}: sd_model_checkpoint must be text", field=field)
    if str(settings.get("samples_format", "png")).lower() not in FORMATS:
        expected = ", ".join(FORMATS)
        raise InvalidRequest(f"{field}: samples_format must be one of {expected}", field=field)
    return settings


def _count(data: Mapping[str, Any]) -> int:
    counts = [read_count(data.get(name, 1), name) for name in ("batch_size", "n_iter")]
    # The web UI makes `n_iter` batches of `batch_size` pictures.
    return read_count(counts[0] * counts[1], "batch_size")


# --- Responding -----------------------------------------------------------------------------------


def _finish(service: ImageService, request: Request, batch: Batch) -> Response:
    finished = batch.finished
    if finished is None:
        return redirect_to_pending(request, batch, f"{ROUTE}/")
    if not fit(finished):
        raise PictureTooLarge(
            f"The pictures together do not fit one response; request fewer, or {_ADVICE}."
        )
    pairs = zip(batch.generations, finished, strict=True)
    texts = [infotext(picture.body, generation) for generation, picture in pairs]
    body = {
        "images": [encoded(picture) for picture in finished],
        "parameters": _parameters(batch),
        # JSON within JSON, as in the web UI: clients decode it a second time.
        "info": json.dumps(
            _info(service, batch, texts, size_of(finished[0].body)), ensure_ascii=False
        ),
    }
    return json_response(
        body, headers=painted_header(service.settings.painted(batch.generations[0]))
    )


def _parameters(batch: Batch) -> dict[str, Any]:
    """Return the fields as they were read; null is left to the model.

    Nothing is returned as it was sent: SillyTavern puts a password into the body.
    """
    first = batch.generations[0]
    fields = {name: getattr(first, ours) for name, ours in FIELDS.items()}
    return {
        **fields,
        "prompt": _with_tags(first),
        "batch_size": len(batch.generations),
        "n_iter": 1,
        "override_settings": {
            "sd_model_checkpoint": first.model,
            "samples_format": first.file_format,
        },
    }


def _info(
    service: ImageService, batch: Batch, texts: list[str], size: tuple[int, int] | None
) -> dict[str, Any]:
    """Return how the pictures were made, under the web UI's names."""
    first, count = batch.generations[0], len(batch.generations)
    model = service.settings.models.get(str(first.model))
    used = {**_DEFAULTS, **(model.defaults if model else {}), **first.to_dict()}
    width, height = size or (used["width"], used["height"])
    # The web UI's word for a random one, for a model that takes none: its clients expect a number.
    seeds = [-1 if one.seed is None else one.seed for one in batch.generations]
    painted = service.settings.painted(first)
    return {
        "prompt": _with_tags(first),
        "all_prompts": [_with_tags(first)] * count,
        "negative_prompt": first.negative_prompt,
        "all_negative_prompts": [first.negative_prompt] * count,
        "seed": seeds[0],
        "all_seeds": seeds,
        "width": width,
        "height": height,
        "sampler_name": setting(texts[0], "Sampler") or SAMPLER,
        "cfg_scale": _number(setting(texts[0], "CFG scale"), used["guidance_scale"]),
        "steps": _number(setting(texts[0], "Steps"), used["steps"]),
        "batch_size": count,
        "sd_model_name": first.model,
        **_ALWAYS,
        # Here the web UI reports what it has no member for, under the names of the infotext.
        "extra_generation_params": {"Painted size": painted} if painted else {},
        "all_subseeds": [0] * count,
        # In the web UI a grid of all pictures may be first; here there is none.
        "index_of_first_image": 0,
        "infotexts": texts,
        "styles": [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.gmtime()),
        "version": setting(texts[0], "Version") or "",
    }


def _with_tags(generation: GenerationRequest) -> str:
    return " ".join([generation.prompt, *lora_tags(generation.lora)])


def _number(text: str | None, otherwise: float) -> float:
    """Return a number of a picture's file, or `otherwise` for any other text."""
    if text is None or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return otherwise
    return float(text) if "." in text else int(text)
