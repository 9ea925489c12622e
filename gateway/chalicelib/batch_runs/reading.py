"""Reading the file of a batch: into lines whose pictures can all be queued, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from chalicelib.auth.quota import Payment
from chalicelib.batch_runs.files import Files
from chalicelib.batch_runs.records import Batch
from chalicelib.batches.lines import FileRefused, Line, ModelFacts, read_file
from chalicelib.batches.openai import side_step
from chalicelib.errors import BatchUnknown, BillFault, InvalidRequest
from chalicelib.images.resolved_request import complete
from chalicelib.images.service import ImageService
from chalicelib.settings import Settings

# It is in the Lambda's memory several times while it is read.
LARGEST_FILE = 50_000_000  # bytes
# OpenAI's own limit of `n`; all pictures of a line are in memory at once.
MOST_PICTURES_OF_LINE = 10
_MOST_ERRORS = 20


class Refused(Exception):
    """The file cannot be used.

    Attributes:
        errors: as OpenAI's batches have them: code, line, message and param.
    """

    def __init__(self, errors: Iterable[Mapping[str, Any]]) -> None:
        self.errors = tuple(errors)
        super().__init__()


def read(service: ImageService, files: Files, batch: Batch, payment: Payment | None) -> list[Line]:
    """Return the lines of a batch's file.

    Raises:
        Refused: for a file that is gone, too large, or has a line that cannot be queued, and if
            the key cannot pay for all of it.
        StoreUnavailable: if S3 does not return the file.
    """
    settings = service.settings
    try:
        content = files.content(files.find(batch.owner, batch.file), LARGEST_FILE)
    except BatchUnknown as error:
        raise _refused("invalid_file", error.message) from error
    if content is None:
        raise _refused("file_too_large", f"The file has more than {LARGEST_FILE:,} bytes.")
    queued = [name for name, model in settings.models.items() if model.queue]
    others = [name for name in settings.models if name not in queued]
    if not queued:
        raise _refused("model_not_supported", "No model of this gateway has a queue.", "model")
    facts = {
        name: ModelFacts(
            model.defaults.get("steps"),
            model.backend.abilities.formats[0],
            repeats=model.backend.repeats,
            step=side_step(model.limits),
        )
        for name, model in settings.models.items()
    }
    try:
        lines = read_file(".jsonl", content, [*queued, *others], facts)
    except FileRefused as error:
        raise Refused(
            _error("invalid_request", fault.reason, fault.field, fault.number or None)
            for fault in error.faults
        ) from error
    errors = list(islice(_faults(settings, lines), _MOST_ERRORS))
    if errors:
        raise Refused(errors)
    try:
        service.spend.require_room()
        if payment is not None:
            service.meter.check_queued(
                payment, [picture.request for line in lines for picture in line.pictures]
            )
    except BillFault as error:
        raise _refused(error.code, error.message) from error
    return lines


def _faults(settings: Settings, lines: Sequence[Line]) -> Iterator[dict[str, Any]]:
    """Yield what is wrong with lines that can be read."""
    first = lines[0].pictures[0].request.model
    for line in lines:
        request = line.pictures[0].request
        if settings.models[str(request.model)].queue is None:
            reason = f"{request.model} has no asynchronous endpoint, which batches need"
            yield _error("model_not_supported", reason, "model", line.number)
        elif request.model != first:
            reason = f"must be {first}, as in the first line: a batch has one model"
            yield _error("mismatched_model", reason, "model", line.number)
        elif len(line.pictures) > MOST_PICTURES_OF_LINE:
            reason = f"must be at most {MOST_PICTURES_OF_LINE}"
            yield _error("invalid_request", reason, "n", line.number)
        else:
            try:
                complete(settings, request)
            except InvalidRequest as error:
                yield _error("invalid_request", error.message, error.field, line.number)


def _refused(code: str, message: str, field: str | None = None) -> Refused:
    return Refused([_error(code, message, field)])


def _error(
    code: str, message: str, field: str | None = None, line: int | None = None
) -> dict[str, Any]:
    return {"code": code, "line": line, "message": message, "param": field}
