"""A server of OpenAI's images API that answers at /invocations, with fields of its own.

Follows OpenAI's API reference (https://platform.openai.com/docs/api-reference/images/create) for
requests, answers and errors: an unknown field is refused, and only the server's own are not.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Collection, Mapping
from typing import Any

from endpoint.emulator.container.imitations.images import Generate, ImageRequest, encoded
from endpoint.emulator.container.toolkit import JSON, Response

# Those of the API that concern text to image; `user` and the like change nothing.
_FIELDS = {
    *("prompt", "model", "n", "size", "response_format", "output_format"),
    *("background", "moderation", "output_compression", "quality", "style", "user"),
}
# What such servers add, by the names that they use for it, and the field of an `ImageRequest`.
_OWN_FIELDS = {
    "seed": ("seed", int),
    "steps": ("steps", int),
    "num_inference_steps": ("steps", int),
    "guidance_scale": ("guidance_scale", float),
    "negative_prompt": ("negative_prompt", str),
}
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_FORMATS = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


class _Refused(Exception):
    def __init__(self, message: str, param: str | None, code: str | None) -> None:
        kind = "invalid_request_error"
        self.error = {"message": message, "type": kind, "param": param, "code": code}
        super().__init__(message)


class OpenAiImages:
    """A server of one model.

    Args:
        generate: makes the images.
        accepts: the names of the fields that this server adds to the API.
        model: the only name that a request may give; None for any.
        default_steps: for a request without steps.
    """

    def __init__(
        self,
        generate: Generate,
        *,
        accepts: Collection[str] = (),
        model: str | None = None,
        default_steps: int = 50,
    ) -> None:
        unknown = set(accepts) - set(_OWN_FIELDS)
        if unknown:
            raise ValueError(f"no such field: {', '.join(sorted(unknown))}")
        self._generate, self._accepts = generate, set(accepts)
        self._model, self._default_steps = model, default_steps

    def answer(self, _: Mapping[str, str], body: bytes) -> Response:
        """Respond to `POST /invocations`."""
        try:
            fields = _object(body)
            self._check(fields)
            request = self._request(fields)
        except _Refused as refusal:
            return _json(400, {"error": refusal.error})
        kind = fields.get("output_format", "png")
        try:
            files = [encoded(self._generate(request), kind) for _ in range(fields.get("n", 1))]
        except Exception as error:  # noqa: BLE001 - whatever the engine raises
            content = {"message": str(error), "type": "server_error", "param": None, "code": None}
            return _json(500, {"error": content})
        data = [{"b64_json": base64.b64encode(file).decode()} for file in files]
        return _json(200, {"created": int(time.time()), "data": data, "output_format": kind})

    def _check(self, fields: Mapping[str, Any]) -> None:
        for name in fields:
            if name not in _FIELDS | self._accepts:
                raise _Refused(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
        if not isinstance(fields.get("prompt"), str) or not fields["prompt"]:
            raise _Refused("Missing required parameter: 'prompt'.", "prompt", "missing_parameter")
        if self._model is not None and fields.get("model", self._model) != self._model:
            message = f"The model '{fields['model']}' does not exist."
            raise _Refused(message, "model", "model_not_found")
        if fields.get("response_format", "b64_json") != "b64_json":
            raise _invalid(fields, "response_format", "'b64_json'")
        if fields.get("output_format", "png") not in _FORMATS:
            raise _invalid(fields, "output_format", "'png', 'jpeg' and 'webp'")
        if fields.get("n", 1) not in range(1, 11):
            raise _invalid(fields, "n", "1 to 10")

    def _request(self, fields: Mapping[str, Any]) -> ImageRequest:
        size = fields.get("size", "auto")
        match = _SIZE.fullmatch(size) if isinstance(size, str) else None
        if match is None and size != "auto":
            raise _invalid(fields, "size", "'auto' and 'WIDTHxHEIGHT'")
        own: dict[str, Any] = {"steps": self._default_steps}
        for name in self._accepts & fields.keys():
            target, kind = _OWN_FIELDS[name]
            if not isinstance(fields[name], int | float if kind is float else kind):
                raise _invalid(fields, name, kind.__name__)
            own[target] = fields[name]
        return ImageRequest(
            prompt=fields["prompt"],
            width=int(match[1]) if match else None,
            height=int(match[2]) if match else None,
            **own,
        )


def _object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise _Refused("We could not parse the JSON body of your request.", None, None) from error
    if not isinstance(fields, dict):
        raise _Refused("The JSON body of your request is no object.", None, None)
    return fields


def _invalid(fields: Mapping[str, Any], name: str, supported: str) -> _Refused:
    message = f"Invalid value: {fields[name]!r}. Supported values are: {supported}."
    return _Refused(message, name, "invalid_value")


def _json(status: int, content: Any) -> Response:
    return Response(status, {"content-type": JSON}, json.dumps(content).encode())
