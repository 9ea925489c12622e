"""A small double of the Hugging Face serving toolkit: how it calls the model's four functions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from inspect import signature

import inference

# The toolkit decodes bodies of exactly these types; all others arrive as a bytearray.
_TEXT_TYPES = {"application/json", "text/csv"}


@dataclass
class Response:
    status: int
    body: bytes | str

    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json()["error"]


class Context:
    """What the toolkit's own context has of interest: request headers, response status."""

    def __init__(self):
        self.headers = {}
        self.status = 200

    def get_request_header(self, index, key):
        assert index == 0
        return self.headers.get(key)

    def set_response_status(self, code=200, phrase="", idx=0):
        assert phrase
        assert idx == 0
        self.status = code


class Toolkit:
    """One worker with one model, answering requests one by one."""

    def __init__(self, folder, context_type=Context):
        # The toolkit counts: with these numbers of arguments it passes its context.
        for function, count in (("model", 2), ("input", 3), ("predict", 3), ("output", 3)):
            assert len(signature(getattr(inference, f"{function}_fn")).parameters) == count
        self.make_context = context_type
        self.model = inference.model_fn(str(folder), context_type())

    def post(self, body, *, accept=None, content_type="application/json"):
        context = self.make_context()
        if isinstance(context, Context):
            context.headers = {"Content-Type": content_type, "Accept": accept}
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        data = raw.decode() if content_type in _TEXT_TYPES else bytearray(raw)
        if not accept or accept == "*/*":
            accept = "application/json"
        request = inference.input_fn(data, content_type, context)
        prediction = inference.predict_fn(request, self.model, context)
        response = inference.output_fn(prediction, accept, context)
        return Response(getattr(context, "status", 200), response)
