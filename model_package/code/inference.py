"""The four functions that the SageMaker Hugging Face serving toolkit calls, in this order.

`engine_fn`, `prepare_fn` and `deadline_fn` are for Easel's own server.

The toolkit passes its context to functions with one argument more than they need, and turns any
exception into a 400. So nothing is raised here: an error is passed on as a value to `output_fn`,
which responds with the error's own status.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from easel import bootstrap  # first: it reads the weights while the imports below run for seconds

# isort: split
from easel.batching.engine import Engine
from easel.batching.measure import make_engine
from easel.errors import EaselError, guard
from easel.generator import GeneratedImage
from easel.load import load_generator
from easel.model import Model
from easel.serving.request import DescribeRequest, read_changed, read_deadline, read_request
from easel.serving.response import check_accept, encode_error, encode_response
from easel.startup.stopwatch import Stopwatch
from generation import GenerationRequest

_IMPORTS = bootstrap.imported()
_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def model_fn(model_dir: str, context: Any = None) -> Model:  # noqa: ARG001 - the toolkit's shape
    """Load the model; if that fails, the reason is logged and the next request tries again."""
    load = partial(load_generator, Path(model_dir), os.environ)
    model = Model(lambda: load(stopwatch=Stopwatch(imports=_IMPORTS)))
    model.try_to_load()
    return model


def input_fn(
    data: str | bytes | bytearray, content_type: str | None, context: Any = None
) -> GenerationRequest | DescribeRequest | EaselError:
    """Read and check the request before it takes any GPU time."""
    return guard(_read, data, content_type, context)


def predict_fn(
    data: GenerationRequest | DescribeRequest | EaselError,
    model: Model,
    context: Any = None,
) -> GeneratedImage | Mapping[str, object] | EaselError:
    """Generate the image, or describe the model."""
    if isinstance(data, EaselError):
        return data
    if isinstance(data, DescribeRequest):
        return guard(_describe, model)
    return guard(_generate, data, model, context)


def output_fn(
    prediction: GeneratedImage | Mapping[str, object] | EaselError,
    accept: str | None,
    context: Any = None,
) -> bytes | str:
    """Return the image file, JSON with the image or the description, or the error."""
    if isinstance(prediction, EaselError):
        return encode_error(prediction, context)
    response = guard(encode_response, prediction, accept)
    return encode_error(response, context) if isinstance(response, EaselError) else response


def engine_fn(model: Model) -> Engine:
    """Return what paints several requests together, for a server that can use it.

    Raises:
        EaselError: if the model could not be loaded.
    """
    return make_engine(model.loaded())


def prepare_fn(
    data: GenerationRequest | DescribeRequest | EaselError, model: Model, context: Any
) -> Callable[[], EaselError | None] | None:
    """Return what a request needs that can wait for a network: adapters that were just published.

    Returns:
        None for most requests; else what has to be called, and returns why it failed, if it did.
    """
    if isinstance(data, EaselError):
        return None
    generator, changed = model.generator(), _changed(context)
    request = data if isinstance(data, GenerationRequest) else None
    if not generator.is_outdated(request, changed):
        return None
    return partial(guard, generator.update, request, changed)


def deadline_fn(context: Any) -> float:
    """Return when the caller will have left, by `time.monotonic`; infinity if it does not say."""
    return read_deadline(_header(context, _ATTRIBUTES))


def _generate(data: GenerationRequest, model: Model, context: Any) -> GeneratedImage:
    generator = model.generator()
    generator.update(data, _changed(context))
    return generator.generate(data, deadline_fn(context))


def _describe(model: Model) -> Mapping[str, object]:
    generator = model.generator()
    generator.update(None)
    return generator.describe()


def _changed(context: Any) -> float:
    return read_changed(_header(context, _ATTRIBUTES))


def _read(
    data: str | bytes | bytearray, content_type: str | None, context: Any
) -> GenerationRequest | DescribeRequest:
    request = read_request(data, content_type)
    if isinstance(request, DescribeRequest):
        return request
    check_accept(_header(context, "Accept"), request)
    return request


def _header(context: Any, name: str) -> str | None:
    """Return a header of the request; None if the context has none."""
    try:
        header = context.get_request_header(0, name)
        return str(header or context.get_request_header(0, name.lower()) or "")
    except (AttributeError, TypeError, LookupError):  # no context, or one without a request
        return None
