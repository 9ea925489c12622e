"""The fixed set of requests, by the deployment that they go to.

Each deployment is a gateway with settings of its own. A model's name says what its endpoint does:
see `aws.py`.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

from tests.contract.aws import REFUSALS

KEY, SLOW_KEY, OLD_KEY = ("easel-" + letter * 43 for letter in "kso")
SECRET = "s" * 43
ORIGIN = "https://friend.example"
NAVIGATION = {
    "Accept": "text/html,application/xhtml+xml,image/avif,*/*;q=0.8",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "User-Agent": "Mozilla/5.0 Firefox/140.0",
}
IMAGE = {"Accept": "image/avif,image/webp,*/*;q=0.8", "Sec-Fetch-Dest": "image"}
CURL = {"Accept": "*/*", "User-Agent": "curl/8.0"}
CRAWLER = {"Accept": "*/*", "User-Agent": "Slackbot-LinkExpanding 1.0"}
ASYNC = {"Accept": "*/*", "Prefer": "respond-async"}
WAIT = {"Accept": "*/*", "Prefer": "wait=20"}
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type",
}

Request = dict[str, Any]


def request(method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> Request:
    return {"method": method, "path": path, "headers": headers or {"Accept": "*/*"}, **more}


def get(path: str, headers: dict[str, str] | None = None, **more: Any) -> Request:
    return request("GET", path, headers, **more)


def post(path: str, value: Any, headers: dict[str, str] | None = None, **more: Any) -> Request:
    given = {"Accept": "*/*", "Content-Type": "application/json", **(headers or {})}
    body = value if isinstance(value, str) else json.dumps(value)
    return request("POST", path, given, body=body, **more)


@dataclass(frozen=True)
class Deployment:
    """A gateway, and what it is asked in this order.

    Attributes:
        environment: its variables; `<aws>` in a value is the address of the AWS behind it.
        requests: by what they show.
        objects: what is in S3 beforehand.
        models: whether it has the models that all have.
    """

    requests: dict[str, Request]
    environment: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    models: bool = True


def _queue(name: str) -> dict[str, str]:
    return {"endpoint": name, "jobs": f"s3://easel-{name}/jobs/"}


DEFAULTS = {"steps": 20, "guidance_scale": 7.5, "width": 512, "height": 512}
MODELS: dict[str, Any] = {
    "sd": {
        "endpoint": "sd",
        "revision": "r1",
        "defaults": DEFAULTS,
        "seconds": 2.5,
        "loras": ["ink", "pixel"],
    },
    "done": {"asynchronous": _queue("done"), "revision": "r2", "loras": ["pixel"]},
    **{name: {"asynchronous": _queue(name)} for name in ("failed", "refused", "never", "huge")},
    "both": {"endpoint": "gone", "asynchronous": _queue("done")},
    "shut": {"asynchronous": _queue("throttled")},
    **{name: {"endpoint": name} for name in (*REFUSALS, "cut", "half", "rubbish", "large", "slow")},
}


# An address of every route. The OpenAPI document's routes, and these, must be the gateway's own.
ROUTES = {
    "/": "/",
    "/inference": "/inference?seed=1",
    "/inference/{text}": "/inference/a%20red%20apple?seed=1",
    "/inference/default": "/inference/default?seed=1",
    "/sentence": "/sentence?seed=1",
    "/usage": "/usage",
    "/jobs": "/jobs",
    "/jobs/{identifier}": "/jobs/done-00000000000000000000000000000000",
    "/jobs/{identifier}/image": "/jobs/done-00000000000000000000000000000000/image",
    "/v1/images/generations": "/v1/images/generations",
    "/v1/images/generations/{identifiers}": "/v1/images/generations/done-0000",
    "/v1/models": "/v1/models",
    "/v1/models/{name}": "/v1/models/sd",
    "/v1/files": "/v1/files",
    "/v1/files/{name}": "/v1/files/file-000000000000000000000000",
    "/v1/files/{name}/content": "/v1/files/file-000000000000000000000000/content",
    "/v1/batches": "/v1/batches",
    "/v1/batches/{name}": "/v1/batches/batch_000000000000000000000000",
    "/v1/batches/{name}/cancel": "/v1/batches/batch_000000000000000000000000/cancel",
    "/v1/images/edits": "/v1/images/edits",
    "/v1/images/variations": "/v1/images/variations",
    "/sdapi/v1/txt2img": "/sdapi/v1/txt2img",
    "/sdapi/v1/txt2img/{identifiers}": "/sdapi/v1/txt2img/done-0000",
    "/sdapi/v1/options": "/sdapi/v1/options",
    "/sdapi/v1/sd-models": "/sdapi/v1/sd-models",
    "/sdapi/v1/loras": "/sdapi/v1/loras",
    "/sdapi/v1/samplers": "/sdapi/v1/samplers",
    "/sdapi/v1/schedulers": "/sdapi/v1/schedulers",
    "/sdapi/v1/progress": "/sdapi/v1/progress",
    "/sdapi/v1/interrupt": "/sdapi/v1/interrupt",
    "/sdapi/v1/skip": "/sdapi/v1/skip",
    **{
        f"/sdapi/v1/{name}": f"/sdapi/v1/{name}"
        for name in (
            "upscalers", "latent-upscale-modes", "sd-vae", "hypernetworks", "face-restorers",
            "prompt-styles", "embeddings", "scripts", "extensions", "cmd-flags", "memory",
            "refresh-checkpoints", "refresh-loras", "refresh-vae", "img2img",
            "extra-single-image", "extra-batch-images", "interrogate", "png-info",
        )
    },
    "/teach": "/teach",
    "/datasets": "/datasets",
    "/datasets/{identifier}": "/datasets/abcdefghijkl",
    "/train": "/train",
    "/train-status": "/train-status",
    "/train/{identifier}": "/train/abcdefghijkl",
    "/train/{identifier}/loss.svg": "/train/abcdefghijkl/loss.svg",
    "/train/{identifier}/samples/{step}": "/train/abcdefghijkl/samples/200",
    "/train/{identifier}/cancel": "/train/abcdefghijkl/cancel",
    "/train/{identifier}/resume": "/train/abcdefghijkl/resume",
    "/loras/{model}/{name}": "/loras/sd/watercolour",
    "/session": "/session",
    "/links": "/links",
    "/robots.txt": "/robots.txt",
    "/options": "/options",
    "/openapi.json": "/openapi.json",
    "/docs": "/docs",
    "/health": "/health",
}  # fmt: skip

_ALL = {
    "negative_prompt": "blurry",
    "seed": 42,
    "steps": 30,
    "guidance_scale": 6.5,
    "width": 768,
    "height": 640,
    "model": "sd",
    "lora": "pixel:0.8",
    "format": "webp",
}
_QUERY = "&".join(f"{name}={value}" for name, value in _ALL.items())
_APPLE = "/inference/a%20red%20apple"
_GENERATE, _TXT2IMG = "/v1/images/generations", "/sdapi/v1/txt2img"


def plain() -> dict[str, Request]:
    """Every route once with the method that it is for, and once with HEAD where that is one."""
    posts = {
        "/jobs": {"prompt": "a red apple", "seed": 1, "model": "done"},
        "/v1/images/generations": {"prompt": "a red apple", "seed": 1},
        "/sdapi/v1/txt2img": {"prompt": "a red apple", "seed": 1},
        "/sdapi/v1/options": {"sd_model_checkpoint": "sd"},
        "/session": {"key": "anything"},
        "/links": {},
    }
    both = {}
    for path in ROUTES.values():
        both[f"GET {path}"] = get(path)
        both[f"HEAD {path}"] = request("HEAD", path)
        route = path.partition("?")[0]
        both[f"POST {path}"] = post(route, posts.get(route, {}))
        both[f"DELETE {path}"] = request("DELETE", route)
    return both


def preflights(origin: str = ORIGIN) -> dict[str, Request]:
    headers = {**PREFLIGHT, "Origin": origin}
    return {f"OPTIONS {path}": request("OPTIONS", path, headers) for path in ROUTES.values()}


PICTURES = {
    "every field": get(f"{_APPLE}?{_QUERY}"),
    "a seed is chosen where none is named": get(_APPLE),
    "letters beyond ASCII": get("/inference/%C3%A9t%C3%A9%20%E2%98%80?seed=1"),
    "slashes and question marks are encoded": get("/inference/a%2Fb%3Fc?seed=1"),
    "no UTF-8": get("/inference/%FF?seed=1"),
    "JPEG": get(f"{_APPLE}?seed=1&format=jpeg"),
    "as a browser's image": get(f"{_APPLE}?seed=1", IMAGE),
    "as a navigation": get(f"{_APPLE}?seed=1", NAVIGATION),
    "without Accept": {**get(f"{_APPLE}?seed=1"), "headers": {"User-Agent": "none"}},
    "an unknown field": get(f"{_APPLE}?seed=1&size=2"),
    "a field that is wrong": get(f"{_APPLE}?steps=0"),
    "a field that is no number": get(f"{_APPLE}?width=wide"),
    "a field twice": get(f"{_APPLE}?seed=1&seed=2"),
    "a prompt in the query": get(f"{_APPLE}?prompt=x"),
    "a model that is not there": get(f"{_APPLE}?model=nobody"),
    "a wrong field as a navigation": get(f"{_APPLE}?steps=0", NAVIGATION),
    "a prompt that is too long": get("/inference/" + "a" * 1001),
    "an empty form": get("/inference?prompt="),
    "a form": get("/inference?prompt=a+red+apple&seed=3&steps=&model=sd"),
    "a random sentence as a navigation": get("/inference?seed=5", NAVIGATION),
    "a random sentence with fields": get("/inference?seed=5&steps=9&format=png"),
    "HEAD of a WebP": request("HEAD", f"{_APPLE}?seed=1&format=webp"),
    "HEAD with a wrong field": request("HEAD", f"{_APPLE}?steps=0"),
    "a prefetch": get(f"{_APPLE}?seed=1", {**NAVIGATION, "Sec-Purpose": "prefetch"}),
    "a crawler": get(f"{_APPLE}?seed=1", CRAWLER),
    "a crawler, of a picture that exists": get("/inference/kept?seed=1&model=done", CRAWLER),
    "If-None-Match of another": get(f"{_APPLE}?seed=1", {"Accept": "*/*", "If-None-Match": '"x"'}),
    "a session without keys": post("/session", {"key": "x"}),
    "a body that is no JSON": post("/jobs", "{"),
    "a body that is a list": post("/jobs", []),
    "a job without a prompt": post("/jobs", {}),
    "a job with an unknown field": post("/jobs", {"prompt": "x", "size": 3}),
    "a job of a real-time model": post("/jobs", {"prompt": "x", "model": "sd"}),
    "no such route": get("/nothing"),
    "PUT": request("PUT", "/health"),
    "a sentence as a navigation": get("/sentence?seed=4", NAVIGATION),
    "a sentence with a wrong seed": get("/sentence?seed=-1"),
    "the home page as a navigation": get("/", NAVIGATION),
}

# Answered at once with Prefer: respond-async; a job that never ends is met in IMPATIENT.
JOBS = {
    "a picture of a queue that is done at once": get("/inference/kept?seed=1&model=done", WAIT),
    "again": get("/inference/kept?seed=1&model=done"),
    "queued": post("/jobs", {"prompt": "a pear", "seed": 1, "model": "never"}, ASYNC),
    "queued again": post("/jobs", {"prompt": "a pear", "seed": 1, "model": "never"}),
    "a waiting job": get("/jobs/<queued>"),
    "a waiting job's picture, without waiting": get("/jobs/<queued>/image", ASYNC),
    "a waiting job's picture, for a crawler": get("/jobs/<queued>/image", CRAWLER),
    "a waiting job's picture, prefetched": get(
        "/jobs/<queued>/image", {"Accept": "*/*", "Purpose": "prefetch"}
    ),
    "HEAD of a waiting job": request("HEAD", "/jobs/<queued>"),
    "HEAD of a waiting job's picture": request("HEAD", "/jobs/<queued>/image"),
    "an inference that is not waited for": get("/inference/a%20pear?seed=1&model=never", ASYNC),
    "a job that is over": get("/jobs/<queued>", later=4_000),
    "the picture of a job that is over": get("/jobs/<queued>/image", later=4_000),
    "done": post("/jobs", {"prompt": "a plum", "seed": 1, "model": "done"}),
    "a finished job": get("/jobs/<done>"),
    "a finished job's picture": get("/jobs/<done>/image"),
    "a finished job's picture, for a crawler": get("/jobs/<done>/image", CRAWLER),
    "a finished job's picture, as a navigation": get("/jobs/<done>/image", NAVIGATION),
    "failed": post("/jobs", {"prompt": "a nut", "seed": 1, "model": "failed"}),
    "a failed job": get("/jobs/<failed>"),
    "a failed job's picture": get("/jobs/<failed>/image"),
    "a failed job's picture, as a navigation": get("/jobs/<failed>/image", NAVIGATION),
    "a failed job is tried again": post("/jobs", {"prompt": "a nut", "seed": 1, "model": "failed"}),
    "refused": post("/jobs", {"prompt": "a nut", "seed": 1, "model": "refused"}),
    "a refused job": get("/jobs/<refused>"),
    "a refused job's picture": get("/jobs/<refused>/image"),
    "a refused job is not tried again": post(
        "/jobs", {"prompt": "a nut", "seed": 1, "model": "refused"}
    ),
    "a picture that is too large for an answer": get("/inference/x?seed=1&model=huge", WAIT),
    "a queue that is throttled": post("/jobs", {"prompt": "x", "seed": 1, "model": "shut"}),
    "a queue behind an endpoint that is gone": get("/inference/x?seed=1&model=both", WAIT),
    "an unknown job": get("/jobs/done-11111111111111111111111111111111"),
    "an unknown job's picture": get("/jobs/done-11111111111111111111111111111111/image"),
    "an unknown job's picture, as a navigation": get(
        "/jobs/done-11111111111111111111111111111111/image", NAVIGATION
    ),
    "an id that is none": get("/jobs/what"),
    "an id of another model": get("/jobs/nobody-11111111111111111111111111111111"),
}

OPENAI = {
    "two pictures": post(_GENERATE, {"prompt": "x", "n": 2, "seed": 1, "size": "512x512"}),
    "every field": post(
        _GENERATE,
        {
            "prompt": "x",
            "model": "dall-e-3",
            "n": 1,
            "size": "640x512",
            "quality": "hd",
            "style": "vivid",
            "response_format": "b64_json",
            "output_format": "webp",
            "user": "u",
            "seed": 5,
            "negative_prompt": "y",
            "guidance_scale": 3,
        },
    ),
    "low quality": post(_GENERATE, {"prompt": "x", "quality": "low", "seed": 1}),
    "as addresses": post(_GENERATE, {"prompt": "x", "seed": 1, "response_format": "url", "n": 2}),
    "the address of a queued picture": post(
        _GENERATE, {"prompt": "x", "seed": 1, "response_format": "url", "model": "never"}
    ),
    "a queued picture": post(_GENERATE, {"prompt": "x", "seed": 1, "model": "done"}),
    "a picture that is too large": post(_GENERATE, {"prompt": "x", "seed": 1, "model": "huge"}),
    "no prompt": post(_GENERATE, {}),
    "an unknown field": post(_GENERATE, {"prompt": "x", "wat": 1}),
    "a size that is none": post(_GENERATE, {"prompt": "x", "size": "big"}),
    "a size that is too large": post(_GENERATE, {"prompt": "x", "size": "9999x64"}),
    "too many": post(_GENERATE, {"prompt": "x", "n": 9}),
    "too large together": post(_GENERATE, {"prompt": "x", "n": 4, "size": "2048x2048"}),
    "stream": post(_GENERATE, {"prompt": "x", "stream": True}),
    "transparent": post(_GENERATE, {"prompt": "x", "background": "transparent"}),
    "no JSON": post(_GENERATE, "x"),
    "a model that is not there": get("/v1/models/nobody"),
    "unknown pictures": get("/v1/images/generations/done-11111111111111111111111111111111"),
    "too many pictures": get(f"/v1/images/generations/{','.join(['done-1'] * 5)}"),
    "throttled": post(_GENERATE, {"prompt": "x", "seed": 1, "model": "throttled"}),
    "blocked": post(_GENERATE, {"prompt": "x", "seed": 1, "model": "blocked"}),
}

SDAPI = {
    "every field": post(
        _TXT2IMG,
        {
            "prompt": "x <lora:pixel:0.5>",
            "negative_prompt": "y",
            "seed": 9,
            "steps": "12",
            "cfg_scale": 4.5,
            "width": 640,
            "height": 512,
            "batch_size": 2,
            "n_iter": 1,
            "sampler_name": "Euler a",
            "override_settings": {"sd_model_checkpoint": "sd"},
        },
    ),
    "any seed": post(_TXT2IMG, {"prompt": "x", "seed": -1}),
    "WebP": post(
        _TXT2IMG, {"prompt": "x", "seed": 1, "override_settings": {"samples_format": "webp"}}
    ),
    "a queued picture": post(
        _TXT2IMG, {"prompt": "x", "seed": 1, "override_settings": {"sd_model_checkpoint": "done"}}
    ),
    "a wrong format": post(
        _TXT2IMG, {"prompt": "x", "override_settings": {"samples_format": "gif"}}
    ),
    "a wrong field": post(_TXT2IMG, {"prompt": "x", "steps": 1000}),
    "an adapter that is none": post(_TXT2IMG, {"prompt": "x <lora:a b:c>"}),
    "a second pass": post(_TXT2IMG, {"prompt": "x", "enable_hr": True}),
    "a script": post(_TXT2IMG, {"prompt": "x", "script_name": "y"}),
    "pictures that are not sent": post(_TXT2IMG, {"prompt": "x", "send_images": False}),
    "pictures that repeat": post(_TXT2IMG, {"prompt": "x", "tiling": 1}),
    "too many": post(_TXT2IMG, {"prompt": "x", "batch_size": 3, "n_iter": 3}),
    "no JSON": post(_TXT2IMG, "x"),
    "settings that are others": post("/sdapi/v1/options", {"sd_model_checkpoint": "other"}),
    "unknown pictures": get(f"{_TXT2IMG}/done-11111111111111111111111111111111"),
    "throttled": post(
        _TXT2IMG, {"prompt": "x", "override_settings": {"sd_model_checkpoint": "throttled"}}
    ),
    "blocked": post(
        _TXT2IMG, {"prompt": "x", "override_settings": {"sd_model_checkpoint": "blocked"}}
    ),
}

TROUBLE = {
    f"{name}: {who}": get(f"/inference/x?seed=1&model={name}", headers)
    for name in (*REFUSALS, "cut", "half", "rubbish", "large")
    for who, headers in (("a program", CURL), ("a person", NAVIGATION))
}

_NEVER = "/inference/a%20fig?seed=1&model=never"
IMPATIENT = {
    "a warm-up": post("/jobs", {"prompt": "a fig", "seed": 1, "model": "never"}, ASYNC),
    "a slow endpoint": get("/inference/x?seed=1&model=slow"),
    "a slow endpoint, as OpenAI": post(_GENERATE, {"prompt": "x", "seed": 1, "model": "slow"}),
    "an image client": get(_NEVER, CURL),
    "its next hop": get("/jobs/<a warm-up>/image?hop=1", CURL),
    "the last hop of an image": get("/jobs/<a warm-up>/image?hop=18", IMAGE),
    "the last hop of curl": get("/jobs/<a warm-up>/image?hop=48", CURL),
    "the last but one of aiohttp": get(
        "/jobs/<a warm-up>/image?hop=7", {"Accept": "*/*", "User-Agent": "aiohttp/3"}
    ),
    "a person": get(_NEVER, NAVIGATION),
    "a person at the job": get("/jobs/<a warm-up>/image", NAVIGATION),
    "OpenAI's library": post(_GENERATE, {"prompt": "x", "seed": 1, "n": 2, "model": "never"}),
    "OpenAI's library at its last hop": get(
        "/v1/images/generations/<a warm-up>?hop=18", {"Accept": "*/*"}
    ),
    "AUTOMATIC1111's client": post(
        _TXT2IMG, {"prompt": "x", "seed": 1, "override_settings": {"sd_model_checkpoint": "never"}}
    ),
}

_BEARER = {"Accept": "*/*", "Authorization": f"Bearer {KEY}"}
_BASIC = {"Accept": "*/*", "Authorization": "Basic " + b64encode(f"u:{KEY}".encode()).decode()}
_SLOW = {"Accept": "*/*", "X-Api-Key": SLOW_KEY}
_COOKIE = {"Accept": "*/*", "Cookie": "<cookie of signing in>"}
_LINK_COOKIE = {**NAVIGATION, "Cookie": "<cookie of following it>"}
KEYS = {
    **{f"without a key: {path}": get(path) for path in ROUTES.values()},
    "without a key, as a navigation": get(f"{_APPLE}?seed=1", NAVIGATION),
    "without a key, as OpenAI": post(_GENERATE, {"prompt": "x"}),
    "without a key, as AUTOMATIC1111": post(_TXT2IMG, {"prompt": "x"}),
    "X-Api-Key": get(f"{_APPLE}?seed=1", {"Accept": "*/*", "X-Api-Key": KEY}),
    "Bearer": get(f"{_APPLE}?seed=1", _BEARER),
    "Basic": get(f"{_APPLE}?seed=1", _BASIC),
    "a wrong key": get(f"{_APPLE}?seed=1", {"Accept": "*/*", "X-Api-Key": "wrong"}),
    "a key that has expired": get(f"{_APPLE}?seed=1", {"Accept": "*/*", "X-Api-Key": OLD_KEY}),
    "a picture is kept private": get(
        f"{_APPLE}?seed=1", {**_BEARER, "If-None-Match": "<etag of Bearer>"}
    ),
    "signing in": post("/session", {"key": KEY}, {"Origin": "https://easel.example"}),
    "signing in with a wrong key": post("/session", {"key": "x"}),
    "signing in without one": post("/session", {}),
    "signing in from elsewhere": post("/session", {"key": KEY}, {"Origin": "https://evil.example"}),
    "with the session": get(f"{_APPLE}?seed=1", _COOKIE),
    "with the session, from elsewhere": post(
        "/jobs", {"prompt": "x"}, {**_COOKIE, "Origin": "https://evil.example"}
    ),
    "with the session, when it is over": get(f"{_APPLE}?seed=1", _COOKIE, later=31 * 86_400),
    "signing out": request("DELETE", "/session", _COOKIE),
    "signing out from elsewhere": request(
        "DELETE", "/session", {**_COOKIE, "Sec-Fetch-Site": "cross-site"}
    ),
    "a link": post("/links", {"pictures": 1, "expires_in": 3600}, _BEARER),
    "a link for any number": post("/links", {"pictures": None}, _BEARER),
    "a link that is wrong": post("/links", {"pictures": 0}, _BEARER),
    "a link for too long": post("/links", {"expires_in": 1}, _BEARER),
    "a link with an unknown field": post("/links", {"x": 1}, _BEARER),
    "following it": get("/?link=<link of a link>", NAVIGATION),
    "following one that is wrong": get("/?link=x", NAVIGATION),
    "painting with it": get(f"{_APPLE}?seed=1&link=<link of a link>"),
    "the same again": get(f"{_APPLE}?seed=1&link=<link of a link>"),
    "another than it has": get(f"{_APPLE}?seed=2&link=<link of a link>"),
    "with its cookie": get(f"{_APPLE}?seed=1", _LINK_COOKIE),
    "with it, as a navigation": get(f"{_APPLE}?seed=1&link=<link of a link>", NAVIGATION),
    "a random sentence with it": get("/inference?seed=1&link=<link of a link>", NAVIGATION),
    "when it is over": get(f"{_APPLE}?seed=1&link=<link of a link>", later=4_000),
    "a link makes no link": post("/links?link=<link of a link>", {}),
    "two links": get(f"{_APPLE}?seed=1&link=a&link=b"),
    "a key's first picture of two": get(f"{_APPLE}?seed=1", _SLOW),
    "a key's second": get(f"{_APPLE}?seed=1", _SLOW),
    "a key's third": get(f"{_APPLE}?seed=1", _SLOW),
    "a key's third, as OpenAI": post(_GENERATE, {"prompt": "x"}, _SLOW),
    "the address of a picture": post(
        _GENERATE, {"prompt": "x", "seed": 1, "response_format": "url"}, _BEARER
    ),
    "a job": post("/jobs", {"prompt": "x", "seed": 1, "model": "done"}, _BEARER),
    "its picture": get("/jobs/<a job>/image", _BEARER),
    "a site that may read it": get("/health", {"Accept": "*/*", "Origin": ORIGIN}),
    "a site that may not": get("/health", {"Accept": "*/*", "Origin": "https://evil.example"}),
    "a picture for a site that may read it": get(f"{_APPLE}?seed=1", {**_BEARER, "Origin": ORIGIN}),
    "the preflight of a site that may not": request(
        "OPTIONS", _APPLE, {**PREFLIGHT, "Origin": "https://evil.example"}
    ),
    "access": get("/options"),
}

LIMITED = {
    "a forbidden prompt": get("/inference/a%20zorblax?seed=1"),
    "a forbidden prompt, as a navigation": get("/inference/a%20zorblax?seed=1", NAVIGATION),
    "a forbidden prompt, as OpenAI": post(_GENERATE, {"prompt": "a zorblax"}),
    "a forbidden prompt, as AUTOMATIC1111": post(_TXT2IMG, {"prompt": "a zorblax"}),
    "the first of two": get(f"{_APPLE}?seed=1"),
    "somebody else": get(f"{_APPLE}?seed=1", address="2001:db8::1"),
    "the second": get(f"{_APPLE}?seed=1"),
    "the third": get(f"{_APPLE}?seed=1"),
    "the third, as a navigation": get(f"{_APPLE}?seed=1", NAVIGATION),
    "the third, as AUTOMATIC1111": post(_TXT2IMG, {"prompt": "x"}),
    "what exists costs nothing": get("/health"),
}

STORED = {
    "painted": get(f"{_APPLE}?seed=1", _BEARER),
    "painted once": get(f"{_APPLE}?seed=1", _BEARER),
    "as OpenAI": post(_GENERATE, {"prompt": "a red apple", "seed": 1}, _BEARER),
    "as AUTOMATIC1111": post(_TXT2IMG, {"prompt": "a red apple", "seed": 1}, _BEARER),
    "a random one": get(_APPLE, _BEARER),
    "a link": post("/links", {"pictures": 1}, _BEARER),
    "a link does not delete": request("DELETE", f"{_APPLE}?seed=1&link=<link of a link>"),
    "nobody does": request("DELETE", f"{_APPLE}?seed=1"),
    "a deletion without a seed": request("DELETE", _APPLE, _BEARER),
    "deleted": request("DELETE", f"{_APPLE}?seed=1", _BEARER),
    "deleted again": request("DELETE", f"{_APPLE}?seed=1", _BEARER),
    "a job that is none": request("DELETE", "/jobs/what", _BEARER),
    "painted again": get(f"{_APPLE}?seed=1", _BEARER),
}

_KEYS = [
    {"name": "ada", "sha256": hashlib.sha256(KEY.encode()).hexdigest()},
    {"name": "bob", "sha256": hashlib.sha256(SLOW_KEY.encode()).hexdigest(), "per_minute": 2},
    {
        "name": "old",
        "sha256": hashlib.sha256(OLD_KEY.encode()).hexdigest(),
        "expires": "2020-01-01",
    },
]

# Nothing listens there.
_NOWHERE = "http://127.0.0.1:9"

DEPLOYMENTS = {
    # First, since it takes longest: most of it ends with the deadline.
    "waiting": Deployment(IMPATIENT, {"EASEL_DEADLINE_SECONDS": "1"}),
    "routes": Deployment({**plain(), **preflights()}),
    "pictures": Deployment({**JOBS, **PICTURES}),
    "dialects": Deployment(
        {
            **{f"OpenAI: {name}": each for name, each in OPENAI.items()},
            **{f"AUTOMATIC1111: {name}": each for name, each in SDAPI.items()},
        }
    ),
    "trouble": Deployment(TROUBLE),
    "crowded": Deployment(
        {
            "no place to wait": get(_NEVER),
            "no place to wait, as a navigation": get(_NEVER, NAVIGATION),
            "no place is needed": get(_NEVER, ASYNC),
        },
        {"EASEL_MOST_WAITING": "1"},
        {"easel-never/jobs/waiting/0": b"2000000000.0"},
    ),
    "keys": Deployment(
        {**KEYS, **preflights()},
        {
            "EASEL_API_KEYS": json.dumps(_KEYS),
            "EASEL_SECRET": SECRET,
            "EASEL_LINKS": "s3://easel-links/links/",
            "EASEL_CORS_ORIGINS": ORIGIN,
        },
    ),
    "stored": Deployment(
        STORED,
        {
            "EASEL_MODELS": json.dumps(
                {"sd": {"endpoint": "sd", "pictures": "s3://easel-sd/pictures/sd/"}}
            ),
            "EASEL_API_KEYS": json.dumps(_KEYS),
            "EASEL_SECRET": SECRET,
            "EASEL_LINKS": "s3://easel-links/links/",
        },
        models=False,
    ),
    "limits": Deployment(
        {**LIMITED, **{f"any site: {name}": each for name, each in preflights().items()}},
        {
            "EASEL_PICTURES_PER_MINUTE": "2",
            "EASEL_CORS_ORIGINS": "*",
            "EASEL_PROMPT_FILTER": "refuse",
            "EASEL_PROMPT_FILTER_WORDS": "zorblax",
            "EASEL_LOG_PROMPTS": "on",
        },
    ),
    "warnings": Deployment(
        {"a doubtful prompt": get("/inference/a%20zorblax?seed=1")},
        {"EASEL_PROMPT_FILTER": "warn", "EASEL_PROMPT_FILTER_WORDS": "zorblax"},
    ),
    "unreachable": Deployment(
        {
            "no endpoint": get("/inference/x?seed=1"),
            "no endpoint, as OpenAI": post(_GENERATE, {"prompt": "x"}),
            "no bucket": get("/jobs/done-11111111111111111111111111111111"),
            "no bucket, as a job": post("/jobs", {"prompt": "x", "model": "done"}),
        },
        {"AWS_ENDPOINT_URL": _NOWHERE},
    ),
    "unset": Deployment(
        {
            "the home page": get("/"),
            "a picture": get(f"{_APPLE}?seed=1"),
            "a preflight": request("OPTIONS", "/jobs", PREFLIGHT),
            "health": get("/health"),
        },
        models=False,
    ),
}
