"""Tags in a prompt: `batches/prompt_tags.py` reads them, and here their errors name `prompt`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chalicelib.batches import prompt_tags
from chalicelib.errors import InvalidRequest
from chalicelib.generation import GenerationRequest
from chalicelib.web.body import named_fields


def apply_tags(request: GenerationRequest) -> GenerationRequest:
    """Return a request whose prompt has its tags removed and whose `lora` has their adapters.

    Raises:
        InvalidRequest: naming `prompt`, for a tag that cannot be read.
    """
    with named_fields():
        return prompt_tags.apply_tags(request)


@contextmanager
def naming_tags(lora: object) -> Iterator[None]:
    """A context in which an adapter that a tag names is refused as a fault of `prompt`.

    The model server knows no tags, and says `lora`.

    Args:
        lora: the field as the caller sent it; where it has adapters of its own, they may be meant.

    Raises:
        InvalidRequest: in place of one that names `lora`, which the caller did not send.
    """
    try:
        yield
    except InvalidRequest as error:
        if error.field != "lora" or lora:
            raise
        reason = error.message.removeprefix("lora: ")
        raise InvalidRequest(f"prompt: {reason}", field="prompt") from error
