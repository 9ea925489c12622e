"""OpenAI's files and batches, as its libraries use them.

https://platform.openai.com/docs/api-reference/files and .../batch

A batch belongs to the key that has created it, and so do its files: to others they do not exist.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from chalicelib.access_settings import Key
from chalicelib.auth.quota import Payment
from chalicelib.aws.deadline import Deadline, shared, sharing
from chalicelib.aws.parallel import in_parallel
from chalicelib.batch_runs.files import File
from chalicelib.batch_runs.reading import LARGEST_FILE
from chalicelib.batch_runs.records import Batch, SentRequest, Status
from chalicelib.batch_runs.runs import BatchRuns
from chalicelib.batches import places
from chalicelib.batches.lines import URL
from chalicelib.errors import (
    BatchNeedsKey,
    BatchOver,
    BatchUnknown,
    InvalidRequest,
    NotOffered,
    StoreUnavailable,
)
from chalicelib.generation import Whole
from chalicelib.image_files import LARGEST_PICTURE
from chalicelib.images.service import ImageService
from chalicelib.web.body import read_json_object, read_whole
from chalicelib.web.form import TYPE, read_form_data
from chalicelib.web.request import Request
from chalicelib.web.response import Response, json_response, see_other

PURPOSE = "batch"
WINDOW = "24h"
LIMIT = Whole("How many are listed.", 1, 100)
_LIMIT_OF_FILES = Whole("How many are listed.", 1, 10_000)
_MOST_FILES = 100  # that are read for one response
# Whoever asks for a batch continues it for a while, should an event have been lost.
_REPAIR_SECONDS = 8.0
_BATCH_FIELDS = {
    "input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"
}  # fmt: skip
_FILE_FIELDS = {"filename", "bytes", "purpose", "expires_after"}
_SIZE = Whole("The file's size in bytes.", 1, LARGEST_FILE)
LONGEST_NAME = 255
_METADATA = (16, 64, 512)  # pairs, characters of a name, characters of a value
_FILE_ID, _BATCH_ID = re.compile(r"file-([0-9a-f]{24})"), re.compile(r"batch_([0-9a-f]{24})")
_S3_OBJECT, _SCHEDULE = "Object Created", "aws.events"


class BatchApi:
    """The routes of files and batches, and the events that continue batches.

    Args:
        service: of pictures.
        now: seconds since 1970.
    """

    def __init__(self, service: ImageService, now: Callable[[], float] = time.time) -> None:
        self._service = service
        self._now = now
        place = service.settings.batches
        self._offered = place and BatchRuns(service, place, now)

    # --- Files ------------------------------------------------------------------------------------

    def create_file(self, request: Request) -> Response:
        """Handle `POST /v1/files`: a form with the file, or JSON for a file that is PUT to S3.

        Raises:
            RateLimited: if the key has as many files as it can.
            GatewayError: if it is no form of OpenAI's, or cannot be stored.
        """
        with self._working(request) as key:
            owner = places.owner_of(key.name)
            if not request.headers.get("content-type", "").lower().startswith(TYPE):
                return self._expect_file(owner, read_json_object(request))
            fields, files = read_form_data(request)
            _check_purpose(fields.get("purpose"))
            if "file" not in files:
                raise InvalidRequest("file: is missing", field="file")
            sent = files["file"]
            file = self._runs.files.create(
                owner, _file_name(sent.name), sent.content, PURPOSE, self._now()
            )
            return json_response(_file(file))

    def _expect_file(self, owner: str, body: Mapping[str, Any]) -> Response:
        _check_names(body, _FILE_FIELDS)
        _check_purpose(body.get("purpose"))
        name, size = body.get("filename"), body.get("bytes")
        if not isinstance(name, str) or not name:
            raise InvalidRequest("filename: is required, as text", field="filename")
        if size is None:
            raise InvalidRequest("bytes: is required, the file's size", field="bytes")
        size = read_whole(size, "bytes", _SIZE)
        file, link = self._runs.files.expect(owner, _file_name(name), size, PURPOSE, self._now())
        return json_response({**_file(file), "upload_url": link})

    def files(self, request: Request) -> Response:
        """Handle `GET /v1/files`: the caller's, the newest first unless `order=asc`."""
        with self._working(request) as key:
            parameters = request.parameters()
            _check_names(parameters, {"after", "limit", "order", "purpose"})
            owner = places.owner_of(key.name)
            order = parameters.get("order", "desc")
            if order not in ("asc", "desc"):
                raise InvalidRequest("order: must be asc or desc", field="order")
            every = self._runs.files.every(owner)
            every = every[::-1] if order == "asc" else every
            limit = min(_limit(parameters, _LIMIT_OF_FILES, _MOST_FILES), _MOST_FILES)
            chosen, more = _page(every, parameters.get("after"), _FILE_ID, limit)
            found = self._runs.files.read(owner, chosen)
            purpose = parameters.get("purpose")
            wanted = [file for file in found if purpose in (None, file.purpose)]
            return json_response(_list([_file(file) for file in wanted], has_more=more))

    def file(self, request: Request, name: str) -> Response:
        """Handle `GET /v1/files/<id>`; raises BatchUnknown."""
        with self._working(request) as key:
            return json_response(_file(self._find(key, name)))

    def content(self, request: Request, name: str) -> Response:
        """Handle `GET /v1/files/<id>/content`; a large file is a redirect to S3.

        Raises:
            BatchUnknown: if there is no such file, or it was not uploaded.
        """
        with self._working(request) as key:
            file = self._find(key, name)
            body = self._runs.files.content(file, LARGEST_PICTURE)
            if body is None:
                return see_other(self._runs.files.link(file))
            headers = {"Content-Type": "application/octet-stream", "Cache-Control": "no-store"}
            return Response(200, body, headers)

    def delete_file(self, request: Request, name: str) -> Response:
        """Handle `DELETE /v1/files/<id>`; raises BatchUnknown."""
        with self._working(request) as key:
            file = self._find(key, name)
            self._runs.files.delete(places.owner_of(key.name), file)
            return json_response({"id": name, "object": "file", "deleted": True})

    def _find(self, key: Key, name: str) -> File:
        identifier = _identifier(_FILE_ID, name)
        if identifier is None:
            raise BatchUnknown("Unknown file.")
        return self._runs.files.find(places.owner_of(key.name), identifier)

    # --- Batches ----------------------------------------------------------------------------------

    def create(self, request: Request) -> Response:
        """Handle `POST /v1/batches`. The file is read later, as OpenAI's are.

        A repeated request with the same `Idempotency-Key` has the batch of the first one.

        Raises:
            InvalidRequest: naming the field that is wrong; `model`, if no model has a queue.
            IdempotencyKeyReused: if the request with this key had another body.
            BillFault: if the key, or the deployment, has no money left.
        """
        with self._working(request) as key:
            body = read_json_object(request)
            sent = _sent_request(request, key, body)
            if sent and (batch := self._created(self._runs.batches.of_request(sent))):
                return json_response(_batch(batch, self._runs.counts(batch)))
            _check_names(body, _BATCH_FIELDS)
            _check_choice(body, "endpoint", URL)
            _check_choice(body, "completion_window", WINDOW)
            metadata = _metadata(body.get("metadata"))
            identifier = body.get("input_file_id")
            if not isinstance(identifier, str):
                raise InvalidRequest("input_file_id: is required", field="input_file_id")
            if not any(model.queue for model in self._service.settings.models.values()):
                message = "model: no model of this gateway has an asynchronous endpoint"
                raise InvalidRequest(f"{message}, which batches need", field="model")
            try:
                file = self._find(key, identifier)
            except BatchUnknown as error:
                message = "input_file_id: unknown file"
                raise InvalidRequest(message, field="input_file_id") from error
            if not file.uploaded or file.purpose != PURPOSE:
                message = "input_file_id: must be an uploaded file with the purpose batch"
                raise InvalidRequest(message, field="input_file_id")
            self._service.spend.require_room()
            self._service.meter.check_queued(Payment(request.principal), [])
            now = self._now()
            identifier = places.new_id(now)
            if sent:
                identifier = self._runs.batches.remember(sent, identifier)
            batch = Batch(identifier, key.name, file.id, int(now), metadata)
            self._runs.batches.create(batch.at(Status.VALIDATING, now))
            request.log.add(batch=batch.id)
            return json_response(_batch(batch, (0, 0)))

    def _created(self, identifier: str | None) -> Batch | None:
        """Return a request's batch; None without one, or if a lost Lambda has left its id alone."""
        return self._runs.batches.read(identifier) if identifier else None

    def batches(self, request: Request) -> Response:
        """Handle `GET /v1/batches`: the caller's, the newest first."""
        with self._working(request) as key:
            parameters = request.parameters()
            _check_names(parameters, {"after", "limit"})
            every = self._runs.batches.owned(places.owner_of(key.name))
            limit = _limit(parameters, LIMIT, 20)
            chosen, more = _page(every, parameters.get("after"), _BATCH_ID, limit)
            described = in_parallel(self._described, chosen)
            listed = [one for one in described if one is not None]
            return json_response(_list(listed, has_more=more))

    def _described(self, identifier: str) -> dict[str, Any] | None:
        batch = self._runs.batches.read(identifier)
        return None if batch is None else _batch(batch, self._runs.counts(batch))

    def batch(self, request: Request, name: str) -> Response:
        """Handle `GET /v1/batches/<id>`; raises BatchUnknown."""
        with self._working(request) as key:
            batch = self._owned(key, name)
            if not batch.is_over:
                self._continue(batch)
                batch = self._owned(key, name)
            return json_response(_batch(batch, self._runs.counts(batch)))

    def cancel(self, request: Request, name: str) -> Response:
        """Handle `POST /v1/batches/<id>/cancel`; raises BatchUnknown and BatchOver."""
        with self._working(request) as key:
            batch = self._runs.cancel(self._owned(key, name))
            if batch.is_over or (batch.ending and batch.status != Status.CANCELLING):
                raise BatchOver(f"The batch is {batch.status.replace('_', ' ')} already.")
            return json_response(_batch(batch, self._runs.counts(batch)))

    def _owned(self, key: Key, name: str) -> Batch:
        identifier = _identifier(_BATCH_ID, name)
        batch = self._runs.batches.read(identifier) if identifier else None
        if batch is None or batch.key != key.name:
            raise BatchUnknown("Unknown batch.")
        return batch

    def _continue(self, batch: Batch) -> None:
        """Continue a batch, whose state can be reported in any case."""
        seconds = min(_REPAIR_SECONDS, shared().remaining * 0.75)
        try:
            with sharing(Deadline(time.monotonic() + seconds)):
                self._runs.advance(batch.id)
        except StoreUnavailable:
            return

    # --- Events -----------------------------------------------------------------------------------

    def handle_event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Continue what an event of S3's is about, or all batches at the time of a schedule.

        Nothing of an event is believed but which batch to look at.

        Raises:
            ValueError: for an event of any other shape.
            GatewayError: if AWS does not respond: the invocation fails, and EventBridge repeats it.
        """
        key = "" if event.get("source") == _SCHEDULE else _key_of(event)
        if self._offered is None:
            return {}
        deadline = Deadline(time.monotonic() + self._service.settings.deadline_seconds)
        with sharing(deadline):
            if not key:
                self._runs.repair()
                return {}
            identifier = places.batch_of(key)
            number = places.number_of(key)
            if identifier is not None and number is not None:
                self._runs.look(identifier, number)
            elif identifier is not None:
                self._runs.advance(identifier)
            return {"batch": identifier or ""}

    # --- Callers ----------------------------------------------------------------------------------

    @property
    def _runs(self) -> BatchRuns:
        if self._offered is None:
            raise NotOffered("This gateway has no batches (EASEL_BATCHES).")
        return self._offered

    @contextmanager
    def _working(self, request: Request) -> Iterator[Key]:
        """Provide the caller's key, and keep the request's deadline.

        Raises:
            BatchNeedsKey: for a caller without one.
            NotOffered: if the gateway has no batches.
        """
        key = request.principal.own_key
        if key is None:
            raise BatchNeedsKey("Files and batches require an API key.")
        _ = self._runs
        with sharing(Deadline(request.arrived + self._service.settings.deadline_seconds)):
            yield key


def _key_of(event: Mapping[str, Any]) -> str:
    detail = event.get("detail")
    stored = detail.get("object") if isinstance(detail, Mapping) else None
    key = stored.get("key") if isinstance(stored, Mapping) else None
    if event.get("detail-type") != _S3_OBJECT or not isinstance(key, str):
        raise ValueError("The event is about no object.")
    return key


# --- Reading --------------------------------------------------------------------------------------


def _check_names(given: Mapping[str, Any], known: set[str]) -> None:
    for name in sorted(set(given) - known):
        raise InvalidRequest(f"{name[:64]}: is not a field", field=name[:64])


def _check_choice(body: Mapping[str, Any], name: str, only: str) -> None:
    if body.get(name) != only:
        raise InvalidRequest(f"{name}: must be {only}", field=name)


def _check_purpose(purpose: object) -> None:
    if purpose != PURPOSE:
        raise InvalidRequest(f"purpose: must be {PURPOSE}", field="purpose")


def _file_name(name: str) -> str:
    if len(name) > LONGEST_NAME or not name.isprintable():
        message = f"filename: must be at most {LONGEST_NAME} printable characters"
        raise InvalidRequest(message, field="filename")
    return name


def _metadata(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    pairs, longest_name, longest = _METADATA
    if not isinstance(value, dict) or len(value) > pairs:
        raise InvalidRequest(f"metadata: must be at most {pairs} pairs of text", field="metadata")
    for name, text in value.items():
        if not isinstance(text, str) or len(name) > longest_name or len(text) > longest:
            message = f"metadata: names have at most {longest_name} characters, texts {longest}"
            raise InvalidRequest(message, field="metadata")
    return value


def _limit(parameters: Mapping[str, str], rule: Whole, usual: int) -> int:
    return read_whole(parameters["limit"], "limit", rule) if "limit" in parameters else usual


def _sent_request(request: Request, key: Key, body: Mapping[str, Any]) -> SentRequest | None:
    """Return the request by its `Idempotency-Key`, or None if it has none."""
    text = request.headers.get("idempotency-key")
    if text is None:
        return None
    if not 0 < len(text) <= LONGEST_NAME or not text.isprintable():
        message = f"Idempotency-Key: must be 1 to {LONGEST_NAME} printable characters"
        raise InvalidRequest(message, field="Idempotency-Key")
    return SentRequest(places.owner_of(key.name), text, body)


def _identifier(form: re.Pattern[str], name: str) -> str | None:
    match = form.fullmatch(name)
    return match[1] if match else None


def _page(
    every: Sequence[str], after: str | None, form: re.Pattern[str], limit: int
) -> tuple[list[str], bool]:
    """Return the ids after one of them, and whether there are more."""
    start = 0
    if after is not None:
        identifier = _identifier(form, after)
        if identifier not in every:
            raise InvalidRequest("after: unknown", field="after")
        start = every.index(identifier) + 1
    return list(every[start : start + limit]), len(every) > start + limit


# --- Responding -----------------------------------------------------------------------------------


def _file(file: File) -> dict[str, Any]:
    return {
        "id": f"file-{file.id}",
        "object": "file",
        "bytes": file.size,
        "created_at": file.created,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed" if file.uploaded else "uploaded",
    }


def _batch(batch: Batch, counts: tuple[int, int]) -> dict[str, Any]:
    moments = batch.moments
    errors = {"object": "list", "data": list(batch.errors)} if batch.errors else None
    return {
        "id": f"batch_{batch.id}",
        "object": "batch",
        "endpoint": URL,
        "model": batch.model or None,
        "errors": errors,
        "input_file_id": f"file-{batch.file}",
        "completion_window": WINDOW,
        "status": batch.status,
        "output_file_id": _output(batch, batch.output),
        "error_file_id": _output(batch, batch.error_output),
        "created_at": batch.created,
        "expires_at": batch.expires,
        **{
            f"{status}_at": moments.get(status)
            for status in (
                "in_progress", "finalizing", "completed", "failed", "expired", "cancelling",
                "cancelled",
            )
        },
        "request_counts": {"total": batch.lines, "completed": counts[0], "failed": counts[1]},
        "metadata": batch.metadata,
    }  # fmt: skip


def _output(batch: Batch, identifier: str | None) -> str | None:
    """Return the id of a finished file; until it can be fetched, there is none."""
    return f"file-{identifier}" if identifier and batch.is_over else None


def _list(data: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return {"object": "list", "data": data, **ends, "has_more": has_more}
