"""The Hugging Face serving toolkit's handling of a model's `inference.py`.

Follows `handler_service.py` of sagemaker-huggingface-inference-toolkit 2.6.0 and `context.py`,
`service.py` and `otf_message_handler.py` of multi-model-server 1.1.11, both Apache-2.0 and both
inside SageMaker's serving images, exactly wherever an inference script can notice. Without a script
it has the default functions of `default_script.py`, for text-to-image alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

logger = logging.getLogger(__name__)

JSON = "application/json"
# The only types whose body reaches `input_fn` as str. The match is exact: with a charset behind
# it, the same JSON arrives as a bytearray.
UTF8_TYPES = (JSON, "text/csv")


# Answers a request after the model is loaded: from body, content type and accept.
Transform = Callable[[Any, str | None, str], Any]


# The server writes JSON with Gson, which escapes what could be markup and nothing else.
_GSON = {ord(character): f"\\u{ord(character):04x}" for character in "'<>&=\u2028\u2029"}


@dataclass
class RequestProcessor:
    """One request's headers, and what the script sets on its response."""

    request_headers: Mapping[str, str]
    status: int = 200
    phrase: str = ""
    response_headers: dict[str, str] = field(default_factory=dict)


class Context:
    """The last argument of a script's functions that take one more than they must.

    Attributes:
        model_name: "model", as on SageMaker's single-model endpoints.
        manifest: None; archives of the model server have one, SageMaker's models do not.
        system_properties: model_dir, gpu_id, batch_size, server_name and server_version.
    """

    def __init__(self, model_dir: str, gpu_id: int | None = None) -> None:
        self.model_name = "model"
        self.manifest = None
        self.system_properties: dict[str, Any] = {
            "model_dir": model_dir,
            "gpu_id": gpu_id,
            # Set by the toolkit at its start; its handler reads only the first request of a batch.
            "batch_size": 1,
            "server_name": "MMS",
            "server_version": "1.1.11",
        }
        self.request_processor: list[RequestProcessor] = []

    def get_request_id(self, idx: int = 0) -> str:
        return str(idx)

    def get_request_header(self, idx: int, key: str) -> str | None:
        # Case-sensitive, as sent: the model server uses a plain dictionary.
        return self.request_processor[idx].request_headers.get(key)

    def get_all_request_header(self, idx: int) -> Mapping[str, str]:
        return self.request_processor[idx].request_headers

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        return self.request_processor[idx].response_headers.get("content-type")

    def get_response_status(self, idx: int) -> tuple[int, str]:
        return self.request_processor[idx].status, self.request_processor[idx].phrase

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        # While the model loads there is no request, and this does nothing.
        for processor in self.request_processor[idx : idx + 1]:
            processor.status, processor.phrase = code, phrase

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        for processor in self.request_processor:
            processor.status, processor.phrase = code, phrase

    def get_response_headers(self, idx: int) -> dict[str, str]:
        return self.request_processor[idx].response_headers

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self.request_processor[idx].response_headers[key] = value


@dataclass(frozen=True)
class Response:
    """A response as it goes over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes


def failure(status: int, message: str, kind: str = "InternalServerException") -> Response:
    """Return an error in the model server's own JSON."""
    shape = {"code": status, "type": kind, "message": message}
    text = json.dumps(shape, indent=2, ensure_ascii=False).translate(_GSON)
    return Response(status, {"content-type": JSON}, f"{text}\n".encode())


class HandlerService:
    """The toolkit's handler: loads the script once, then answers one request at a time.

    Args:
        model_dir: the model's folder.
        program: the script's file name.
        default: has the script's functions, if there is no script.
    """

    def __init__(self, model_dir: str, program: str, default: Any = None) -> None:
        self._context = Context(model_dir)
        self._program = program
        self._default = default
        self._transform: Transform | None = None

    def initialize(self) -> Transform:
        """Import the script and call its `model_fn`; whatever they raise goes to the caller."""
        self._transform = self._load(self._import())
        return self._transform

    def _import(self) -> Any:
        # An empty SAGEMAKER_PROGRAM hides the script, and the toolkit then looks for a
        # default pipeline.
        name = PurePath(self._program).stem
        if not name or importlib.util.find_spec(name) is None:
            if self._default is not None:
                return self._default
            raise ValueError(
                "You need to define one of the following [...] or text-to-image as env 'HF_TASK'.",
                403,
            )
        return importlib.import_module(name)

    def _load(self, script: Any) -> Transform:
        whole = getattr(script, "transform_fn", None)
        steps = [getattr(script, name, None) for name in ("input_fn", "predict_fn", "output_fn")]
        if whole and any(steps):
            raise ValueError(
                "Cannot use transform_fn implementation in conjunction with "
                "input_fn, predict_fn, and/or output_fn implementation"
            )
        if not hasattr(script, "model_fn") or not (whole or all(steps)):
            raise ValueError("the toolkit's default functions are not imitated: define all four")
        transform = self._bound(whole, 4) if whole else self._in_steps(*steps)
        model = self._bound(script.model_fn, 1)(self._context.system_properties["model_dir"])
        return lambda body, content_type, accept: transform(model, body, content_type, accept)

    def _in_steps(self, *functions: Any) -> Callable[..., Any]:
        read, predict, write = (self._bound(function, 2) for function in functions)

        def transform(model: Any, body: Any, content_type: str | None, accept: str) -> Any:
            return write(predict(read(body, content_type), model), accept)

        return transform

    def _bound(self, function: Callable[..., Any], arguments: int) -> Callable[..., Any]:
        """Return `function`, with the context behind its arguments if it counts one more."""
        count = len(inspect.signature(function).parameters)
        if count == arguments:
            return function
        if count == arguments + 1:
            return lambda *arguments: function(*arguments, self._context)
        raise TypeError(
            f"{function.__name__} definition takes {arguments} or {arguments + 1} arguments but "
            f"{count} were given."
        )

    def handle(self, headers: Mapping[str, str], body: bytes) -> Response:
        """Respond to one request; every exception of the script becomes a 400."""
        processor = RequestProcessor(headers)
        self._context.request_processor = [processor]
        try:
            result = self._result(headers, body)
        except Exception as error:  # the toolkit does exactly this
            # Also for a lack of memory, and for a PredictionException that names another status.
            logger.exception("Prediction error")
            return failure(400, str(error))
        return _encoded(result, processor)

    def _result(self, headers: Mapping[str, str], body: bytes) -> Any:
        # The model server swallowed a failure at start, and each request tries again.
        transform = self._transform or self.initialize()
        lowered = {name.lower(): value for name, value in headers.items()}
        content_type = lowered.get("content-type")
        # Accept decides on the response's type, whatever `output_fn` makes of it; only the context
        # can change it (see `_one_type`).
        accept = headers.get("Accept") or headers.get("accept")
        accept = JSON if not accept or accept == "*/*" else accept
        data = body.decode("utf-8") if content_type in UTF8_TYPES else bytearray(body)
        result = transform(data, content_type, accept)
        self._context.set_response_content_type(0, accept)
        return result


def _encoded(result: Any, processor: RequestProcessor) -> Response:
    if isinstance(result, str):
        body = result.encode("utf-8")
    elif isinstance(result, bytes | bytearray):
        body = bytes(result)
    else:
        try:
            body = json.dumps(result, indent=2).encode("utf-8")
        except TypeError:
            return failure(503, "Unsupported model output data type.")
    return Response(processor.status, _one_type(processor.response_headers), body)


def _one_type(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers with one content type.

    Seen on the real server: a script's `set_response_header(0, "Content-Type", ...)` goes before
    the toolkit's own "content-type", in either order.
    """
    spelt = [name for name in headers if name.lower() == "content-type" and name[0] == "C"]
    return {name: value for name, value in headers.items() if not spelt or name != "content-type"}


def add_code(folder: str) -> None:
    """Let scripts in `folder` be imported, before anything else of the same name."""
    sys.path.insert(0, folder)
