"""The table of routes for the OpenAPI document: what each takes, and what it may answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chalicelib.dialects.automatic1111_lists import FRESH, FROM_PICTURES, NOTHING
from chalicelib.errors import (
    GatewayError,
    InternalError,
    InvalidRequest,
    NotOffered,
    Unauthorized,
)
from chalicelib.image_files import MEDIA_TYPES
from chalicelib.openapi.schemas import TEXT, WHOLE, Schema, query_parameters, ref

JSON, HTML, PLAIN = "application/json", "text/html; charset=utf-8", "text/plain; charset=utf-8"
# By status and media type; None for a body that is no JSON.
Answers = Mapping[int, Mapping[str, Schema | None]]


@dataclass(frozen=True)
class Operation:
    """One method of one route.

    Attributes:
        summary: what it does, in a line.
        group: under which heading it stands.
        answers: the schemas of what comes back if all is well, by status and media type; None for
            a body that is no JSON.
        errors: what may go wrong.
        problem: the schema in which that is told.
        parameters: in path and query.
        body: the schema of the body.
        headers: of the answer with status 200.
        head: whether HEAD is answered as well.
    """

    summary: str
    group: str
    answers: Answers
    errors: Sequence[type[GatewayError]] = (InternalError,)
    problem: str = "Problem"
    parameters: Sequence[Schema] = ()
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    head: bool = True


_ANY = tuple(GatewayError.__subclasses__())
_REFUSING = (NotOffered, InternalError)
_READING = (InvalidRequest, InternalError)
# HTML is what a link's preview is told of a picture that nobody has painted.
_PICTURE: dict[str, Schema | None] = dict.fromkeys([*MEDIA_TYPES.values(), HTML])
_PAINTED: Answers = {
    200: _PICTURE,
    202: {JSON: ref("Job"), HTML: None},
    303: {PLAIN: None},
    304: {},
}
_MADE_BY = {
    "X-Seed": "What it was made with.",
    "X-Model": "What painted it.",
    "X-Prompt": "Percent-encoded UTF-8, cut after 6,000 bytes.",
    "Content-Disposition": "A name for the file.",
}
_HOP: Schema = {
    "name": "hop",
    "in": "query",
    "description": "How many redirects have led here.",
    "schema": {**WHOLE, "minimum": 0, "maximum": 999},
}


def _in_path(name: str, meaning: str, **schema: Any) -> Schema:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": meaning,
        "schema": {**TEXT, "minLength": 1, **schema},
    }


_PROMPT = _in_path("text", "The prompt; `%2F` stands for a slash in it.", maxLength=1_000)
_JOB = _in_path("identifier", "A job's id.")
_JOBS = _in_path("identifiers", "The jobs' ids, with commas between.")


def _told(schema: Schema) -> Answers:
    return {200: {JSON: schema}}


def _painting(summary: str, *parameters: Schema) -> Operation:
    every = (*parameters, *query_parameters())
    return Operation(summary, "Pictures", _PAINTED, _ANY, parameters=every, headers=_MADE_BY)


def _openai(summary: str, answers: Any, **more: Any) -> Operation:
    group = "OpenAI's Images API"
    return Operation(summary, group, answers, problem="OpenAIProblem", head=False, **more)


def _web_ui(summary: str, answers: Any, **more: Any) -> Operation:
    group = "AUTOMATIC1111's web UI"
    return Operation(summary, group, answers, problem="WebUIProblem", head=False, **more)


def _chained(schema: str) -> Answers:
    return {200: {JSON: ref(schema)}, 303: {PLAIN: None}}


_SDAPI = "/sdapi/v1"
_IMAGES = "/v1/images/generations"
OPERATIONS: dict[str, dict[str, Operation]] = {
    "/": {
        "get": Operation(
            "The page with the prompt box.",
            "Pictures",
            {200: {HTML: None}, 303: {PLAIN: None}, 304: {}},
        )
    },
    "/inference/{text}": {"get": _painting("The picture of the prompt in the path.", _PROMPT)},
    "/inference/default": {"get": _painting("An astronaut riding a horse on mars.")},
    "/inference": {
        "get": _painting(
            "The picture of a random sentence; or, with `prompt`, as a plain HTML form sends it,"
            " the way to that prompt's picture.",
            {"name": "prompt", "in": "query", "schema": TEXT},
        )
    },
    "/sentence": {
        "get": Operation(
            "A random sentence, not painted yet.",
            "Pictures",
            _told(ref("Sentence")),
            _READING,
            parameters=query_parameters(),
        )
    },
    "/jobs": {
        "post": Operation(
            "Queue a picture.",
            "Jobs",
            {200: {JSON: ref("Job")}, 202: {JSON: ref("Job")}},
            _ANY,
            body="Request",
        )
    },
    "/jobs/{identifier}": {
        "get": Operation(
            "How a queued picture stands.",
            "Jobs",
            {200: {JSON: ref("Job")}, 202: {JSON: ref("Job")}},
            _ANY,
            parameters=[_JOB],
        )
    },
    "/jobs/{identifier}/image": {
        "get": Operation(
            "A queued picture, waited for.",
            "Jobs",
            _PAINTED,
            _ANY,
            parameters=[_JOB, _HOP],
            headers=_MADE_BY,
        )
    },
    _IMAGES: {
        "post": _openai(
            "Up to four pictures.", _chained("ImagesAnswer"), errors=_ANY, body="ImagesRequest"
        )
    },
    f"{_IMAGES}/{{identifiers}}": {
        "get": _openai(
            "Pictures of a call, waited for.",
            _chained("ImagesAnswer"),
            errors=_ANY,
            parameters=[_JOBS, _HOP],
        )
    },
    "/v1/models": {"get": _openai("The models on offer.", _told(ref("Models")))},
    "/v1/models/{name}": {
        "get": _openai(
            "One of the models on offer.",
            _told(ref("OpenAIModel")),
            errors=_REFUSING,
            parameters=[_in_path("name", "The model's name.")],
        )
    },
    **{
        f"/v1/images/{name}": {"post": _openai("Not offered.", {}, errors=_REFUSING)}
        for name in ("edits", "variations")
    },
    f"{_SDAPI}/txt2img": {
        "post": _web_ui(
            "Up to four pictures.", _chained("Txt2ImgAnswer"), errors=_ANY, body="Txt2ImgRequest"
        )
    },
    f"{_SDAPI}/txt2img/{{identifiers}}": {
        "get": _web_ui(
            "Pictures of a call, waited for.",
            _chained("Txt2ImgAnswer"),
            errors=_ANY,
            parameters=[_JOBS, _HOP],
        )
    },
    f"{_SDAPI}/options": {
        "get": _web_ui("The settings.", _told(ref("WebUIOptions"))),
        "post": _web_ui(
            "Accepts settings that are so already.",
            _told({"type": "null"}),
            errors=_READING,
            body="WebUISettings",
        ),
    },
    f"{_SDAPI}/sd-models": {"get": _web_ui("The models on offer.", _told(ref("Checkpoints")))},
    **{
        f"{_SDAPI}/{name}": {"get": _web_ui(f"The {name}.", _told(ref("Named")))}
        for name in ("loras", "samplers", "schedulers")
    },
    f"{_SDAPI}/progress": {"get": _web_ui("That of an idle web UI.", _told(ref("Progress")))},
    **{
        f"{_SDAPI}/{name}": {"post": _web_ui("Not offered.", {}, errors=_REFUSING)}
        for name in ("interrupt", "skip")
    },
    **{
        f"{_SDAPI}/{name}": {"post": _web_ui("Done already.", _told({"type": "null"}))}
        for name in FRESH
    },
    **{
        f"{_SDAPI}/{name}": {"post": _web_ui("Not offered.", {}, errors=_REFUSING)}
        for name in FROM_PICTURES
    },
    **{
        f"{_SDAPI}/{name}": {"get": _web_ui("Nothing of the kind.", _told({"const": nothing}))}
        for name, nothing in NOTHING.items()
    },
    "/session": {
        "post": Operation(
            "Sign a browser in with a key.",
            "Access",
            {204: {}},
            (*_READING, Unauthorized),
            body="Key",
        ),
        "delete": Operation("Sign a browser out.", "Access", {204: {}}),
    },
    "/links": {
        "post": Operation(
            "Make a link with which a friend may paint.",
            "Access",
            {201: {JSON: ref("Link")}},
            _READING,
            body="LinkRequest",
        )
    },
    "/robots.txt": {
        "get": Operation("What crawlers are asked to leave.", "About", {200: {PLAIN: None}})
    },
    "/options": {
        "get": Operation("The fields, and the models on offer.", "About", _told(ref("Options")))
    },
    "/health": {"get": Operation("Version and configuration.", "About", _told(ref("Health")))},
    "/openapi.json": {"get": Operation("This document.", "About", _told({"type": "object"}))},
    "/docs": {"get": Operation("This document as a page.", "About", {200: {HTML: None}})},
}
