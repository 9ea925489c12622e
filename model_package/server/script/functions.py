"""`inference.py` and its functions, called as SageMaker's Hugging Face toolkit calls them.

A script defines `model_fn`, `input_fn`, `predict_fn` and `output_fn`, each with or without a
context as its last argument, or `transform_fn` instead of the last three. It can define three more:

    engine_fn(model) -> Engine         generates several requests together; see `engine.py`
    prepare_fn(data, model, context)   what a request needs that can wait for a network: a function
                                       that returns None or an error, or None for nothing
    deadline_fn(context) -> float      when the caller will have left, by `time.monotonic`
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from .engine import Engine, SerialEngine

JSON = "application/json"
# The toolkit passes these, spelled exactly so, as text, and everything else as bytes.
_TEXT_TYPES = (JSON, "text/csv")


@dataclass
class RequestProcessor:
    """One request's headers, and what the script sets on its response."""

    request_headers: Mapping[str, str]
    status: int = 200
    phrase: str = ""
    response_headers: dict[str, str] = field(default_factory=dict)


class Context:
    """The toolkit's context, for one request; header names are read in any case.

    Attributes:
        system_properties: model_dir, gpu_id, batch_size, server_name and server_version.
    """

    model_name = "model"
    manifest = None

    def __init__(self, model_dir: str, headers: Mapping[str, str] | None = None) -> None:
        self.system_properties: dict[str, Any] = {
            "model_dir": model_dir,
            "gpu_id": None,
            "batch_size": 1,
            "server_name": "Easel",
            "server_version": "1",
        }
        self.request_processor = [RequestProcessor(dict(headers or {}))]
        self._lowered = {name.lower(): value for name, value in (headers or {}).items()}

    def get_request_id(self, idx: int = 0) -> str:
        return str(idx)

    def get_request_header(self, idx: int, key: str) -> str | None:  # noqa: ARG002 - one request
        return self._lowered.get(key.lower())

    def get_all_request_header(self, idx: int) -> Mapping[str, str]:
        return self.request_processor[idx].request_headers

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.set_response_header(idx, "Content-Type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        return self.request_processor[idx].response_headers.get("Content-Type")

    def get_response_status(self, idx: int) -> tuple[int, str]:
        return self.request_processor[idx].status, self.request_processor[idx].phrase

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.request_processor[idx].status, self.request_processor[idx].phrase = code, phrase

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        self.set_response_status(code, phrase)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        return self.request_processor[idx].response_headers

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self.request_processor[idx].response_headers[key.title()] = value


class Script:
    """The script's functions, once `load` has called its `model_fn`.

    Attributes:
        engine: generates its requests.
    """

    def __init__(self, code: Path, program: str, model_dir: Path) -> None:
        self._code, self._program, self.model_dir = code, program, str(model_dir)
        self.engine: Engine
        self._module: Any
        self._model: Any

    def load(self) -> Engine:
        """Import the script, load the model, and return the engine; may take minutes.

        Raises:
            Exception: whatever the script raises, and TypeError for functions of another shape.
        """
        # Before everything else of the same name.
        sys.path.insert(0, str(self._code))
        self._module = importlib.import_module(PurePath(self._program).stem)
        self._check()
        self._model = self._call("model_fn", 1, Context(self.model_dir), self.model_dir)
        make = getattr(self._module, "engine_fn", None)
        self.engine = SerialEngine(self.predict) if make is None else make(self._model)
        return self.engine

    def _check(self) -> None:
        module = self._module
        steps = [name for name in ("input_fn", "predict_fn", "output_fn") if hasattr(module, name)]
        whole = hasattr(module, "transform_fn")
        if whole and steps:
            raise TypeError(f"transform_fn cannot be defined together with {', '.join(steps)}")
        if not hasattr(module, "model_fn") or not (whole or len(steps) == 3):
            raise TypeError(
                f"{self._program} must define model_fn, and input_fn, predict_fn and output_fn, or"
                " transform_fn"
            )

    def deadline(self, context: Context) -> float | None:
        """Return when the caller leaves, by `time.monotonic`; None if the script cannot say."""
        read = getattr(self._module, "deadline_fn", None)
        return None if read is None else float(read(context))

    def preparation(self, data: Any, context: Context) -> Callable[[], Any] | None:
        """Return what has to be called before a request is checked; None for nothing."""
        prepare = getattr(self._module, "prepare_fn", None)
        return None if prepare is None else prepare(data, self._model, context)

    def read(self, body: bytes, content_type: str | None, context: Context) -> Any:
        """Return what `input_fn` makes of a request; raises ValueError for text in no UTF-8."""
        data: str | bytearray = bytearray(body)
        if content_type in _TEXT_TYPES:
            try:
                data = body.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"The body must be {content_type} in UTF-8.") from error
        if hasattr(self._module, "transform_fn"):
            return data
        return self._call("input_fn", 2, context, data, content_type)

    def predict(self, data: Any, context: Context) -> Any:
        """Return what `predict_fn` makes of what `read` returned."""
        if hasattr(self._module, "transform_fn"):
            content_type = context.get_request_header(0, "Content-Type")
            accept = accepted(context)
            return self._call("transform_fn", 4, context, self._model, data, content_type, accept)
        return self._call("predict_fn", 2, context, data, self._model)

    def write(self, result: Any, context: Context) -> bytes:
        """Return the response body that `output_fn` makes of a result."""
        if not hasattr(self._module, "transform_fn"):
            result = self._call("output_fn", 2, context, result, accepted(context))
        if isinstance(result, str):
            return result.encode()
        if isinstance(result, bytes | bytearray):
            return bytes(result)
        return json.dumps(result).encode()

    def _call(self, name: str, count: int, context: Context, *arguments: Any) -> Any:
        """Call a function of the script, with the context if it counts one argument more."""
        function: Callable[..., Any] = getattr(self._module, name)
        takes = len(inspect.signature(function).parameters)
        if takes == count:
            return function(*arguments)
        if takes == count + 1:
            return function(*arguments, context)
        raise TypeError(f"{name} must take {count} or {count + 1} arguments, not {takes}")


def accepted(context: Context) -> str:
    """Return the type of response that a request accepts, as the toolkit reads it."""
    accept = context.get_request_header(0, "Accept")
    return JSON if not accept or accept == "*/*" else accept
