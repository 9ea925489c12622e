"""What the SageMaker Hugging Face serving toolkit calls, in this order: load, read, paint, answer.

The toolkit looks at the number of arguments to decide whether to pass its context, and answers any
exception with an anonymous 400. So nothing is raised here: an error travels as a value to
`output_fn`, which answers with the error's own status.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from easel import bootstrap  # first: it starts to read the weights; all that follows takes seconds

# isort: split
from easel.errors import EaselError, guard
from easel.generator import Picture
from easel.load import load_painter
from easel.model import Model
from easel.serving.request import Question, read_request
from easel.serving.response import check_accept, encode_answer, encode_error
from easel.startup.stopwatch import Clock
from generation import GenerationRequest

_IMPORTS = bootstrap.imported()


def model_fn(model_dir: str, context: Any = None) -> Model:  # noqa: ARG001 - the toolkit's shape
    """Load the model; if that fails, the log says why and the next request tries again."""
    load = partial(load_painter, Path(model_dir), os.environ)
    model = Model(lambda: load(clock=Clock(imports=_IMPORTS)))
    model.try_to_load()
    return model


def input_fn(
    data: str | bytes | bytearray, content_type: str | None, context: Any = None
) -> GenerationRequest | Question | EaselError:
    """Read and check the request, before any time on the GPU."""
    return guard(_read, data, content_type, context)


def predict_fn(
    data: GenerationRequest | Question | EaselError,
    model: Model,
    context: Any = None,  # noqa: ARG001
) -> Picture | Mapping[str, object] | EaselError:
    """Paint the picture, or say what the model can do."""
    if isinstance(data, EaselError):
        return data
    if isinstance(data, Question):
        return guard(lambda: model.painter().describe())
    return guard(lambda: model.painter().paint(data))


def output_fn(
    prediction: Picture | Mapping[str, object] | EaselError,
    accept: str | None,
    context: Any = None,
) -> bytes | str:
    """Answer with the picture's file, with JSON that holds it, or with the error."""
    if isinstance(prediction, EaselError):
        return encode_error(prediction, context)
    answer = guard(encode_answer, prediction, accept)
    return encode_error(answer, context) if isinstance(answer, EaselError) else answer


def _read(
    data: str | bytes | bytearray, content_type: str | None, context: Any
) -> GenerationRequest | Question:
    request = read_request(data, content_type)
    if isinstance(request, Question):
        return request
    check_accept(_accept_header(context), request)
    return request


def _accept_header(context: Any) -> str | None:
    """Return the request's Accept header, if the context knows it this early."""
    try:
        header = context.get_request_header(0, "Accept")
        return str(header or context.get_request_header(0, "accept") or "")
    except (AttributeError, TypeError, LookupError):  # no context, or one without a request
        return None
