"""What each server answers: requests, faults, and the differences between the servers.

The table of differences in docs/model-package.md is made of this by tests/page_tables.py.

An outcome is text: the status with the media type of a success, or with the code and the field of
an error; or what happens otherwise. ` or ` separates outcomes that depend on the time it takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.model_package.servers.script.widths import (
    BLOCKED,
    DEADLY,
    NO_MEMORY,
    NOT_A_NUMBER,
)

JSON = {"Content-Type": "application/json", "Accept": "image/png"}
LARGEST_REQUEST = 100_000
PAINTED = "200 `image/png`"
UNHANDLED = "400 `InternalServerException`"
NOT_UTF8 = '{"prompt": "café"}'.encode("latin-1")


@dataclass(frozen=True)
class Case:
    """A request or a fault, and its outcome on each kind of server.

    Attributes:
        name: in the table; plain words.
        easel: the outcome on Easel's own server.
        toolkit: that on the Hugging Face toolkit, if it differs.
        ray: that on Ray Serve, if it differs.
        key: names the test of a fault; empty for a request.
    """

    name: str
    easel: str
    toolkit: str = ""
    ray: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    method: str = "POST"
    path: str = "/invocations"
    key: str = ""

    def outcomes(self, kind: str) -> list[str]:
        """Return what is right on a kind of server: easel, toolkit or ray."""
        return (getattr(self, kind) or self.easel).split(" or ")

    @property
    def differs(self) -> bool:
        """Whether the table has it."""
        return bool(self.toolkit or self.ray)


def body(**fields: object) -> bytes:
    """Return a request for a small image."""
    return json.dumps({"prompt": "a cat", "seed": 7, **fields}).encode()


def good(name: str, easel: str = PAINTED, *, sends: bytes = b"", **headers: str) -> Case:
    named = {key.replace("_", "-"): text for key, text in headers.items()}
    return Case(name, easel, body=sends or body(), headers={**JSON, **named})


def bad(name: str, culprit: str | None, sends: bytes, toolkit: str = "", **headers: str) -> Case:
    named = {key.replace("_", "-"): text for key, text in headers.items()}
    return Case(
        name, refused(culprit), toolkit, body=sends, headers={**JSON, **named}
    )  # fmt: skip


def refused(culprit: str | None) -> str:
    return "400 `invalid_request`" + (f" ({culprit})" if culprit else "")


def wrong(value: object, name: str) -> Case:
    shown = repr(value) if len(repr(value)) < 40 else f"{repr(value)[:20]}..."
    return bad(f"{name} is {shown}", name, body(**{name: value}))


REQUESTS = [
    good("a PNG file"),
    good("a WebP file", "200 `image/webp`", sends=body(format="webp"), Accept="image/webp"),
    good("a JPEG file", "200 `image/jpeg`", sends=body(format="jpeg"), Accept="image/jpeg"),
    good("JSON", "200 `application/json`", Accept="application/json"),
    good("any type", "200 `application/json`", Accept="*/*"),
    Case("no Accept", "200 `application/json`", body=body(),
         headers={"Content-Type": "application/json"}),
    good("a description", "200 `application/json`", sends=b'{"describe": true}',
         Accept="application/json"),
    good("UTF-8 as a parameter", Content_Type="application/json; charset=utf-8"),
    good("another spelling of the type", Content_Type="Application/JSON;charset=UTF-8"),
    good("a byte order mark", sends=b"\xef\xbb\xbf" + body()),
    good("a byte order mark with a parameter", sends=b"\xef\xbb\xbf" + body(),
         Content_Type="application/json; charset=utf-8"),
    good("markup in the prompt", sends=body(prompt="<script>&'=</script>")),
    good("almost too large", sends=b" " * (LARGEST_REQUEST - 1_000) + body()),
    bad("an unknown Accept", "Accept", body(), Accept="image/gif"),
    bad("an Accept for several types", "Accept", body(), Accept="image/*"),
    bad("Accept and format differ", "format", body(), Accept="image/webp"),
    bad("text/plain", "Content-Type", body(), Content_Type="text/plain"),
    bad("text/csv", "Content-Type", body(), Content_Type="text/csv"),
    bad("bytes", "Content-Type", body(), Content_Type="application/octet-stream"),
    bad("a form", "Content-Type", b"prompt=a", Content_Type="application/x-www-form-urlencoded"),
    bad("a form with parts", "Content-Type", body(), Content_Type="multipart/form-data"),
    bad("nonsense as a type", "Content-Type", body(), Content_Type=";;"),
    Case("A request without `Content-Type`", refused("Content-Type"), ray=PAINTED, body=body(),
         headers={"Accept": "image/png"}),
    bad("A body that is not UTF-8", None, NOT_UTF8, UNHANDLED),
    bad("not UTF-8, with a parameter", None, NOT_UTF8,
        Content_Type="application/json; charset=latin-1"),
    bad("UTF-16", None, body().decode().encode("utf-16"),
        Content_Type="application/json; charset=utf-16"),
    bad("no body", None, b""),
    bad("broken JSON", None, b"{"),
    bad("a list", None, b"[]"),
    bad("null", None, b"null"),
    bad("text", None, b'"x"'),
    bad("deep JSON", None, b"[" * 90_000),
    bad("deep objects", None, b'{"prompt":' * 5_000),
    bad("no prompt", "prompt", b"{}"),
    bad("a name twice", "prompt", b'{"prompt": "a", "prompt": 7}'),
    bad("an unknown field", "nothing", body(nothing=1)),
    *(wrong(value, "prompt") for value in ("", 7, None, "x" * 1_001, "a\0b", "\ud800", ["a"])),
    *(wrong(value, "negative_prompt") for value in (7, "x" * 1_001)),
    *(wrong(value, "seed") for value in (-1, 2**32, 10**400, "7", 0.5)),
    *(wrong(value, "steps") for value in (0, 101, 1.5, "4", True)),
    *(wrong(value, "guidance_scale") for value in (-1, 31, float("nan"), float("inf"), "7")),
    *(wrong(value, "width") for value in (65, 0, 1e9)),
    *(wrong(value, "height") for value in (56, 1544, -64)),
    *(wrong(value, "format") for value in ("gif", 7)),
    *(wrong(value, "model") for value in ("../x", 7)),
    *(wrong(value, "lora") for value in ("nowhere", "a:99", "a\r\nX: y", ["a"], "../x")),
    Case("A body above `MMS_MAX_REQUEST_SIZE`", "413 `too_large`", "413", body=b"x" * 100_001),
    Case("`GET /invocations`", "405 `method_not_allowed`", refused("Content-Type"), "405",
         headers={}, method="GET"),
    Case("Another path", "404 `not_found`", "404 `ResourceNotFoundException`", "404",
         headers={}, method="GET", path="/nowhere"),
    Case("a blocked image", "422 `moderation_blocked`", body=body(width=BLOCKED)),
    Case("out of memory", "507 `out_of_memory`", body=body(width=NO_MEMORY)),
    Case("not a number", "500 `generation_failed`", body=body(width=NOT_A_NUMBER)),
    Case("a deadline that has passed", "504 `too_slow`", body=body(),
         headers={**JSON, "X-Amzn-SageMaker-Custom-Attributes": "trace;until=1.5"}),
]  # fmt: skip

STOPPED, FINISHED = "stops at its next step", "runs to its end"
FAULTS = [
    Case("`/ping` while the model is loaded", "503", "200", "200", key="loading"),
    Case("A model that cannot be loaded", "the server ends",
         "500 `model_unusable`, and `/ping` is 200", "503 `unhealthy`, and `/ping` is 200",
         key="unusable"),
    Case("`Content-Type` of an error, with `Accept: image/png`", "`application/json`",
         "`image/png`", key="type"),
    Case("A deadline that passes before the image is finished",
         "503 `busy` or 504 `too_slow`", "504 `too_slow`", key="deadline"),
    Case("The run of a client that has left", STOPPED, FINISHED, FINISHED, key="left"),
    Case("The process with the model is killed", "no response, and the server ends",
         "500 `InternalServerException`, and later requests work",
         "500, and later requests work", key="killed", body=body(width=DEADLY)),
]  # fmt: skip


def table() -> str:
    """Return the differences as a table."""
    rows = [
        (case.name, case.easel, case.toolkit or case.easel, case.ray or case.easel)
        for case in [*FAULTS, *REQUESTS]
        if case.differs
    ]
    head = ("Request or fault", "Easel's server", "Hugging Face toolkit", "Ray Serve")
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, *rows]).replace(
        " Ray Serve |\n", " Ray Serve |\n|---|---|---|---|\n", 1
    )
