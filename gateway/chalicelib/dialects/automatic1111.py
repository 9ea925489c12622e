"""The API of AUTOMATIC1111's web UI in front of the painter: text to image.

https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/API

What it knows and diffusers' pipelines do not is left aside, as it leaves aside what it does not
know; what would make another picture than was asked for, and cannot be had here, is refused.
`sdapi_lists` answers what clients ask before they paint.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

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
from chalicelib.dialects.infotext import infotext, lora_tags, setting, size_of
from chalicelib.errors import BadPicture, GatewayError, InvalidRequest
from chalicelib.generation import RULES, GenerationRequest, InvalidField
from chalicelib.images.service import Painter
from chalicelib.web.body import read_json_object
from chalicelib.web.request import Visit
from chalicelib.web.response import Answer, json_answer, retry_headers

ROUTE = "/sdapi/v1/txt2img"
# The web UI's names on the left, the contract's on the right.
FIELDS = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "seed": "seed",
    "steps": "steps",
    "cfg_scale": "guidance_scale",
    "width": "width",
    "height": "height",
}
# What the web UI's clients may ask for under `samples_format`.
FORMATS = {"png": "png", "webp": "webp", "jpg": "jpeg", "jpeg": "jpeg"}
_TAG = re.compile(r"<lora:([^<>]*)>")
_ADVICE = 'ask for fewer, or for override_settings {"samples_format": "webp"}'


def generate(painter: Painter, visit: Visit) -> Answer:
    """Answer `POST /sdapi/v1/txt2img`.

    Raises:
        GatewayError: if the request is not valid, or a picture did not come about.
    """
    return _finish(visit, begin(painter, visit, read_order(painter, visit)))


def go_on(painter: Painter, visit: Visit, identifiers: str) -> Answer:
    """Answer a hop of the chain that a call with slow pictures is sent along.

    Raises:
        GatewayError: if there are no such jobs, or a picture did not come about.
    """
    return _finish(visit, resume(painter, visit, identifiers))


def problem(error: GatewayError, request_id: str) -> Answer:
    """Return an error as the web UI does: FastAPI's shape for a bad field, its own for the rest."""
    headers = {"x-request-id": request_id, **retry_headers(error)}
    if isinstance(error, InvalidRequest):
        place = ["body", error.field] if error.field else ["body"]
        detail = {"loc": place, "msg": error.message, "type": "value_error"}
        answer = json_answer({"detail": [detail]}, 422)
    else:
        told = {"error": error.code, "detail": error.message, "body": "", "errors": error.message}
        answer = json_answer(told, error.status)
    return Answer(answer.status, answer.body, {**answer.headers, **headers})


# --- Reading --------------------------------------------------------------------------------------


def read_order(painter: Painter, visit: Visit) -> tuple[GenerationRequest, ...]:
    """Read the body of a call; raises InvalidRequest naming the first field that is wrong."""
    given = read_json_object(visit)
    data = {name: value for name, value in given.items() if value is not None}
    _refuse(data)
    settings = data.get("override_settings", {})
    if not isinstance(settings, dict):
        raise InvalidRequest("override_settings: must be an object", field="override_settings")
    first = _request(data, settings)
    wanted = settings.get("sd_model_checkpoint")
    # As the web UI does with a checkpoint that it does not have: `info` says what painted.
    named = wanted if wanted in painter.models else None
    first = painter.complete(GenerationRequest.from_dict({**first.to_dict(), "model": named}))
    requests = requests_of(first, _count(data))
    check_weight(requests, "batch_size", _ADVICE)
    return requests


def _refuse(data: Mapping[str, Any]) -> None:
    """Refuse what would make another picture than is asked for, and cannot be had here."""
    if data.get("enable_hr"):
        raise InvalidRequest(
            "enable_hr: there is no second pass here; ask for width and height instead",
            field="enable_hr",
        )
    if data.get("send_images") is False:
        raise InvalidRequest("send_images: pictures are kept nowhere else", field="send_images")
    for name in ("script_name", "alwayson_scripts"):
        if data.get(name):
            raise InvalidRequest(f"{name}: there are no scripts here", field=name)


def _request(data: Mapping[str, Any], settings: Mapping[str, Any]) -> GenerationRequest:
    given = {ours: _value(data, name, ours) for name, ours in FIELDS.items() if name in data}
    if isinstance(given.get("prompt"), str):
        given["prompt"], given["lora"] = _without_tags(given["prompt"])
    if given.get("seed") == -1:
        del given["seed"]  # the web UI's way to ask for any
    wanted = settings.get("samples_format", "png")
    given["format"] = FORMATS.get(wanted, "png") if isinstance(wanted, str) else "png"
    try:
        return GenerationRequest.from_dict(given)
    except InvalidField as error:
        raise _invalid(error) from error


def _value(data: Mapping[str, Any], name: str, ours: str) -> Any:
    """Return a field's value; numbers may be spelled as text, as the web UI takes them."""
    value = data[name]
    if not isinstance(value, str) or name in {"prompt", "negative_prompt"}:
        return value
    if name == "seed" and value.strip() == "-1":
        return -1
    try:
        return RULES[ours].read(value.strip())
    except ValueError as error:
        raise InvalidRequest(f"{name}: {error}", field=name) from error


def _without_tags(prompt: str) -> tuple[str, str]:
    """Return the prompt without its `<lora:name:weight>`, and those in the contract's spelling."""
    return _TAG.sub("", prompt), ",".join(_TAG.findall(prompt))


def _invalid(error: InvalidField) -> InvalidRequest:
    """Name the field as the client knows it."""
    theirs = {ours: name for name, ours in FIELDS.items()}
    name = theirs.get(error.field, "prompt" if error.field == "lora" else error.field)
    tag = "the <lora:...> in it " if error.field == "lora" else ""
    return InvalidRequest(f"{name}: {tag}{error.reason}", field=name)


def _count(data: Mapping[str, Any]) -> int:
    counts = [count_of(data.get(name, 1), name) for name in ("batch_size", "n_iter")]
    return count_of(counts[0] * counts[1], "batch_size")


# --- Answering ------------------------------------------------------------------------------------


def _finish(visit: Visit, batch: Batch) -> Answer:
    finished = batch.finished
    if finished is None:
        return send_along(visit, batch, f"{ROUTE}/")
    if not fit(finished):
        raise BadPicture(f"The pictures together do not fit one answer; {_ADVICE}.")
    pairs = zip(batch.requests, finished, strict=True)
    texts = [infotext(picture.body, request) for request, picture in pairs]
    told = {
        "images": [encoded(picture) for picture in finished],
        "parameters": _parameters(batch),
        "info": json.dumps(_info(batch, texts, size_of(finished[0].body)), ensure_ascii=False),
    }
    return json_answer(told)


def _parameters(batch: Batch) -> dict[str, Any]:
    """Return what was understood of the request; null is what the model decides.

    Nothing of the body is sent back as it came: SillyTavern puts a password into it.
    """
    first = batch.requests[0]
    fields = {name: getattr(first, ours) for name, ours in FIELDS.items()}
    return {
        **fields,
        "prompt": _with_tags(first),
        "batch_size": len(batch.requests),
        "n_iter": 1,
        "override_settings": {"sd_model_checkpoint": first.model, "samples_format": first.format},
    }


def _info(batch: Batch, texts: list[str], size: tuple[int, int] | None) -> dict[str, Any]:
    """Return what is known of how the pictures were made, under the web UI's names."""
    first, count = batch.requests[0], len(batch.requests)
    width, height = size or (first.width, first.height)
    seeds = [request.seed for request in batch.requests]
    return {
        "prompt": _with_tags(first),
        "all_prompts": [_with_tags(first)] * count,
        "negative_prompt": first.negative_prompt,
        "all_negative_prompts": [first.negative_prompt] * count,
        "seed": seeds[0],
        "all_seeds": seeds,
        "width": width,
        "height": height,
        "sampler_name": setting(texts[0], "Sampler"),
        "cfg_scale": _number(setting(texts[0], "CFG scale")),
        "steps": _number(setting(texts[0], "Steps")),
        "batch_size": count,
        "sd_model_name": first.model,
        "index_of_first_image": 0,
        "infotexts": texts,
        "styles": [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.gmtime()),
        "version": setting(texts[0], "Version"),
    }


def _with_tags(request: GenerationRequest) -> str:
    return " ".join([request.prompt, *lora_tags(request.lora)])


def _number(text: str | None) -> float | None:
    """Return a number as it was written into a picture's file; None for anything else."""
    if text is None or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return None
    return float(text) if "." in text else int(text)
