"""The pictures of a batch's parts: queued, looked for, queued again, and answered.

What is lost, or fails by accident, is tried once more; `parts.py` keeps invocations apart.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chalicelib.access_settings import Key
from chalicelib.auth.quota import Payment
from chalicelib.aws.deadline import Deadline
from chalicelib.aws.parallel import in_parallel
from chalicelib.aws.s3 import Store
from chalicelib.aws.sagemaker import QueueTimeouts
from chalicelib.backends.setting import EASEL
from chalicelib.batch_runs.parts import PICTURES_OF_PART, Part, Parts, Sent, numbered
from chalicelib.batch_runs.records import CANCELLED, EXPIRED, Batch
from chalicelib.batches import places, results
from chalicelib.batches.lines import Line, Picture
from chalicelib.errors import (
    BadPicture,
    BillFault,
    CallerFault,
    GatewayError,
    JobExpired,
    MayHaveReachedGpu,
    StoreUnavailable,
)
from chalicelib.image_files import check_picture
from chalicelib.images.jobs import UnreadableLocation, check_locations, failure_at
from chalicelib.images.service import Call, ImageService
from chalicelib.settings import Model, Settings
from chalicelib.telemetry import LogRecord
from chalicelib.web.principal import AuthMethod, Principal

# The window is generated in half of the time by one instance; the other half is for a start from
# zero instances.
TIMEOUTS = QueueTimeouts(queue_seconds=3_600, run_seconds=1_800)
_WINDOW_SECONDS = TIMEOUTS.queue_seconds / 2
_FEWEST_PARTS, _MOST_PARTS = 2, 8
_UNKNOWN_SECONDS = 30.0  # of a picture
LONGEST = TIMEOUTS.longest
# A picture that was lost, or failed by accident, is tried once more.
_TRIES = 2
_NOT_RUN = {
    CANCELLED: "This request was not run, because the batch was cancelled.",
    EXPIRED: "This request was not run, because the batch expired after 24 hours.",
}


@dataclass(frozen=True)
class _Picture:
    """A picture at one moment: stored at a key, failed for a reason, or neither.

    Attributes:
        key: of the picture.
        error: with status, code, message and field.
        again: whether the same may succeed another time.
    """

    key: str = ""
    error: Mapping[str, Any] | None = None
    again: bool = False


class PartRuns:
    """Queues and answers the parts of one batch.

    Args:
        service: queues pictures and pays for them.
        batch: as it was read.
        parts: of it.
        now: seconds since 1970.
        check_time: raises if there is no time for another part.
    """

    def __init__(
        self,
        service: ImageService,
        batch: Batch,
        parts: Parts,
        now: Callable[[], float],
        check_time: Callable[[], None],
    ) -> None:
        self._service = service
        self._batch = batch
        self._parts = parts
        self._now = now
        self._check_time = check_time
        # Also of a model that is no longer offered.
        self._pictures = service.store_of(*(batch.place or ("", "")))

    def fill(self, unclaimed: Sequence[Part], waiting: int) -> None:
        """Claim and queue parts up to the window."""
        model, payment = self._service.settings.models.get(self._batch.model), self._payment()
        if model is None or model.queue is None or payment is None:
            return  # it is no longer offered, or nobody pays; the batch expires
        for part in unclaimed[: max(_window(model) - waiting, 0)]:
            self._check_time()
            numbers = range(part.first, part.first + part.pictures)
            attempts, now = {str(number): 1 for number in numbers}, self._now()
            sent = Sent(now + LONGEST, attempts, asked=dict.fromkeys(attempts, now))
            tag = self._parts.claim(part, sent)
            if tag is not None and not self._send(part, sent, tag, list(numbers)):
                return  # no room, no money, or no endpoint; the next invocation tries again

    def _send(self, part: Part, sent: Sent, tag: str, numbers: list[int]) -> bool:
        """Queue pictures of a claimed part, and note where they come; return if all were."""
        pictures, payment = numbered(part, self._parts.lines(part)), self._payment()

        def send(number: int) -> tuple[str | None, str | None] | GatewayError:
            try:
                return self._queue(payment, number, pictures[number])
            except GatewayError as error:
                return error

        # The first alone: of what is refused for money or for want of an endpoint, all would be.
        outcomes = [send(numbers[0])]
        if _is_refused_for_all(outcomes[0]):
            outcomes *= len(numbers)
        else:
            outcomes += in_parallel(send, numbers[1:])
        done = _noted(sent, dict(zip(numbers, outcomes, strict=True)))
        self._parts.claim_again(part, done, tag)
        if done.refused and not done.unsent:
            # No event will come for them. What is unsent would be queued again at once, and be
            # refused again; the next invocation does that, and answers the part in the end.
            self.answer(part)
        return not done.unsent

    def _queue(
        self, payment: Payment | None, number: int, picture: Picture
    ) -> tuple[str | None, str | None]:
        """Queue a picture, and return where it and its failure come; raises GatewayError."""
        if payment is None:
            raise StoreUnavailable("Nobody pays for the batch any more.")
        log = LogRecord(method="EVENT", route=places.BATCHES)
        call = Call(payment, log, Deadline(float("inf")), trace=f"batch {self._batch.id} {number}")
        self._service.check_prompt(call, picture.request.prompt)
        resolved = self._service.resolve(call, picture.request)
        # The window is the limit of a batch, not that of single pictures.
        payment.counted.add(resolved.id)
        queued = self._service.queue(
            call,
            resolved,
            places.output_folder(self._batch.id),
            places.output_file(number, picture),
            places.inference_id(self._batch.id, number),
            TIMEOUTS,
        )
        check_locations(self._pictures, queued.output, queued.failure)
        return queued.output, queued.failure

    def answer(self, part: Part) -> tuple[int, int] | None:
        """Write the results of a part whose pictures have all come or failed.

        What was lost, or failed by accident, for the first time, is queued again. Returns how many
        lines have succeeded and failed; None if some pictures are still on their way.
        """
        claimed = self._parts.sent(part)
        if claimed is None:
            return None
        sent, tag = claimed
        lines, giving_up = self._parts.lines(part), self._batch.giving_up(self._now())
        pictures = numbered(part, lines)
        looked = in_parallel(
            lambda number: self._look(sent, number, pictures[number]), list(pictures)
        )
        found = dict(zip(pictures, looked, strict=True))
        left = [number for number, one in found.items() if not one.key and not one.error]
        is_lost = self._now() > sent.ends
        if is_lost:
            lost = _described(JobExpired("The picture was lost twice. Request it again."))
            tried = [one for one in left if one not in sent.unsent and not _can_retry(sent, one)]
            found |= dict.fromkeys(tried, _Picture(error=lost))
            left = [number for number in left if number not in tried]
        again = [
            number
            for number, one in found.items()
            if (one.again and _can_retry(sent, number))
            or (number in left and (is_lost or number in sent.unsent))
        ]
        if giving_up:
            missing = left if giving_up == EXPIRED or is_lost else list(sent.unsent)
            if set(left) - set(missing):
                return None
        elif again:
            if self._payment() is not None:
                self._again(part, sent, tag, again)
            return None
        elif left:
            return None
        return self._write(part, lines, found, giving_up)

    def _look(self, sent: Sent, number: int, picture: Picture) -> _Picture:
        described = sent.refused.get(str(number))
        if described is not None:
            return _Picture(error=described)
        output, failure = sent.runs.get(str(number), (None, None))
        folder, file = places.output_folder(self._batch.id), places.output_file(number, picture)
        key = self._pictures.key_of(output) or f"outputs/{folder}/{file}"
        if self._pictures.size(key) is not None:
            return _Picture(key)
        model = self._service.settings.models.get(self._batch.model)
        backend = model.backend if model else EASEL
        error = failure_at(self._pictures, failure, sent.asked.get(str(number), 0.0), backend)
        if error is None:
            return _Picture()
        return _Picture(error=_described(error), again=not isinstance(error, CallerFault))

    def _again(self, part: Part, sent: Sent, tag: str, numbers: list[int]) -> None:
        """Queue pictures again, unless another invocation does."""
        for number in numbers:
            key = self._pictures.key_of(sent.runs.get(str(number), (None, None))[1])
            if key:
                # Before the claim: the next run's failure may have the same name.
                self._pictures.delete(key)
        attempts, now = dict(sent.attempts), self._now()
        for number in set(numbers) - set(sent.unsent):
            attempts[str(number)] += 1
        claimed = Sent(
            now + LONGEST,
            attempts,
            asked={**sent.asked, **{str(number): now for number in numbers}},
            runs={number: run for number, run in sent.runs.items() if int(number) not in numbers},
            unsent=tuple(number for number in sent.unsent if number not in numbers),
            refused=sent.refused,
        )
        new = self._parts.claim_again(part, claimed, tag)
        if new is not None:
            self._send(part, claimed, new, numbers)

    def _write(
        self,
        part: Part,
        lines: Sequence[Line],
        found: dict[int, _Picture],
        giving_up: str,
    ) -> tuple[int, int] | None:
        numbers = iter(found)
        rows = {}
        for line in lines:
            own = [found[next(numbers)] for _ in line.pictures]
            rows[line.custom_id] = _row(self._batch, line, own, self._pictures, giving_up)
        failed = {name: row for name, row in rows.items() if not results.is_success(row)}
        decided = self._parts.decide(part, failed)
        if set(failed) - set(decided):
            return None  # another has found more; the next look does, too
        succeeded = [row for name, row in rows.items() if name not in decided]
        self._parts.answer(part, results.to_jsonl(succeeded), results.to_jsonl(decided.values()),
                     (len(succeeded), len(decided)))  # fmt: skip
        return len(succeeded), len(decided)

    def give_up(self, part: Part) -> tuple[int, int] | None:
        """Answer a part that nobody has claimed, and that nobody can claim any more."""
        numbers = tuple(range(part.first, part.first + part.pictures))
        if self._parts.claim(part, Sent(self._now(), unsent=numbers)) is None:
            return None
        return self.answer(part)

    def _payment(self) -> Payment | None:
        return payment_of(self._service.settings, self._batch, self._now())


def payment_of(settings: Settings, batch: Batch, now: float) -> Payment | None:
    """Return what pays for a batch's pictures; None if the key is gone, or has expired."""
    for key in settings.protection.keys:
        if key.name == batch.key and not _has_expired(key, now):
            return Payment(Principal(AuthMethod.KEY, key))
    return None


def _row(
    batch: Batch, line: Line, own: Sequence[_Picture], store: Store, giving_up: str
) -> dict[str, Any]:
    """Return the result of a line whose pictures have come, failed, or were given up."""
    error = next((one.error for one in own if one.error), None)
    if error is None and not all(one.key for one in own):
        return results.not_run(line, giving_up, _NOT_RUN[giving_up])
    if error is None:
        try:
            data = [
                {"b64_json": _encoded(store, one.key, picture.request.file_format)}
                for one, picture in zip(own, line.pictures, strict=True)
            ]
            return results.succeeded(line, data, batch.created)
        except BadPicture as bad:
            error = _described(bad)
    return results.failed(line, **error)


def _encoded(store: Store, key: str, format: str) -> str:  # noqa: A002 (the contract's word)
    stored = store.read(key)
    body = stored.body if stored else b""
    check_picture(body, format)
    return base64.b64encode(body).decode()


def _window(model: Model) -> int:
    """Return how many parts may be on their way."""
    pictures = _WINDOW_SECONDS / max(model.seconds or _UNKNOWN_SECONDS, 0.1)
    return int(min(max(pictures / PICTURES_OF_PART, _FEWEST_PARTS), _MOST_PARTS))


def _noted(
    sent: Sent, outcomes: Mapping[int, tuple[str | None, str | None] | GatewayError]
) -> Sent:
    """Return the claim with what has become of the pictures that were to be queued."""
    runs, refused, unsent = dict(sent.runs), dict(sent.refused), list(sent.unsent)
    for number, outcome in outcomes.items():
        if not isinstance(outcome, GatewayError):
            runs[str(number)] = outcome
        elif isinstance(outcome, CallerFault | UnreadableLocation):
            refused[str(number)] = _described(outcome)
        elif not isinstance(outcome, MayHaveReachedGpu):
            unsent.append(number)
    return replace(sent, runs=runs, refused=refused, unsent=tuple(sorted(unsent)))


def _can_retry(sent: Sent, number: int) -> bool:
    return sent.attempts.get(str(number), 1) < _TRIES


def _is_refused_for_all(outcome: object) -> bool:
    return isinstance(outcome, BillFault) or (
        isinstance(outcome, GatewayError)
        and not isinstance(outcome, CallerFault | MayHaveReachedGpu)
    )


def _described(error: GatewayError) -> dict[str, Any]:
    return {
        "status": error.status,
        "code": error.code,
        "message": error.message,
        "field": error.field,
    }


def _has_expired(key: Key, now: float) -> bool:
    return key.expires is not None and now >= key.expires
