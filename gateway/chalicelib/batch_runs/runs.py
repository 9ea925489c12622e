"""The work on a batch, in steps of a few seconds that events in S3 continue.

    read      the file becomes lines and parts, or is refused with the numbers of its wrong lines
    fill      parts are claimed and queued, as many as one instance generates in half an hour
    answer    once all pictures of a part have come or failed, its results are written
    end       all parts are answered: the output is put together

Each picture, each result and each change of the batch is an object whose writing is an event that
invokes the gateway's Lambda; none is needed. A rule invokes it every quarter of an hour as well,
and so does whoever asks for the batch, which repairs what a lost event or a lost Lambda has left.
"""

from __future__ import annotations

import base64
import secrets
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chalicelib.access_settings import Key
from chalicelib.auth.quota import Payment
from chalicelib.aws.deadline import Deadline, shared
from chalicelib.aws.parallel import in_parallel
from chalicelib.aws.s3 import Store, Stored
from chalicelib.aws.sagemaker import QueueTimeouts, failure_of
from chalicelib.batch_runs.files import File, Files
from chalicelib.batch_runs.output import ERRORS, OUTPUT, Output
from chalicelib.batch_runs.parts import Part, Parts, Sent, numbered
from chalicelib.batch_runs.reading import Refused, read
from chalicelib.batch_runs.records import Batch, Batches, Status
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
from chalicelib.images.jobs import UnreadableLocation, check_locations
from chalicelib.images.service import Call, ImageService
from chalicelib.settings import Model
from chalicelib.telemetry import LogRecord, logger
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
# A step is not begun with less.
_STEP_SECONDS = 1.0
CANCELLED, EXPIRED = "batch_cancelled", "batch_expired"
_NOT_RUN = {
    CANCELLED: "This request was not run, because the batch was cancelled.",
    EXPIRED: "This request was not run, because the batch expired after 24 hours.",
}


class _NoTime(Exception):
    """The step has to be continued by another invocation."""


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


class BatchRuns:
    """Works on batches.

    Args:
        service: queues pictures and pays for them.
        place: bucket and prefix of everything of batches.
        now: seconds since 1970.

    Attributes:
        batches: what is known of them.
        files: of their owners.
    """

    def __init__(
        self,
        service: ImageService,
        place: tuple[str, str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._store = service.store_of(*place)
        self._now = now
        self.batches = Batches(self._store)
        self.files = Files(self._store)

    # --- What invokes it --------------------------------------------------------------------------

    def advance(self, identifier: str) -> None:
        """Do what can be done for a batch now, whether its events have come or not.

        Raises:
            GatewayError: if AWS does not respond; doing it again continues.
        """
        batch = self.batches.read(identifier)
        if batch is None:
            return
        going = self._store.read(places.go(identifier))
        try:
            if batch.status == Status.VALIDATING:
                batch = self._read(batch)
            if not batch.is_over and not batch.ending:
                batch = self._work(batch)
            if not batch.is_over and batch.ending:
                batch = self._end(batch)
        except _NoTime:
            self._go_on(identifier, going)
        if batch.is_over:
            self.batches.close(identifier)

    def look(self, identifier: str, number: int) -> None:
        """Answer the part of a picture that has come; raises as `advance`."""
        batch = self.batches.read(identifier)
        if batch is None or batch.is_over or batch.ending or not batch.model:
            return
        parts = Parts(self._store, identifier)
        every = parts.every()
        index = bisect_right([part.first for part in every], number) - 1
        if index >= 0 and number < every[index].first + every[index].pictures:
            self._answer(batch, parts, every[index])

    def repair(self) -> None:
        """Advance all batches that are not over, as far as there is time."""
        for identifier in self.batches.opened():
            if shared().remaining < _STEP_SECONDS:
                return
            try:
                self.advance(identifier)
            except GatewayError as error:
                logger.warning(
                    "batch not advanced", extra={"batch": identifier, "code": error.code}
                )
            except Exception:  # noqa: BLE001 (one broken batch would keep all others from going on)
                logger.exception("batch not advanced", extra={"batch": identifier})

    def cancel(self, batch: Batch) -> Batch:
        """Queue nothing more of a batch; what is queued already still comes.

        Returns:
            The batch, unchanged if it is over or nearly.
        """
        can = {Status.VALIDATING, Status.IN_PROGRESS}
        return self.batches.change(
            batch.id,
            lambda one: (
                one.at(Status.CANCELLING, self._now())
                if one.status in can and not one.ending
                else one
            ),
        )

    def counts(self, batch: Batch) -> tuple[int, int]:
        """Return how many lines have succeeded and failed so far; raises StoreUnavailable."""
        if batch.ending or not batch.model:
            return batch.completed, batch.failed
        return _sum(Parts(self._store, batch.id).over())

    # --- Read -------------------------------------------------------------------------------------

    def _read(self, batch: Batch) -> Batch:
        try:
            lines = read(self._service, self.files, batch, self._payment(batch))
        except Refused as error:
            failed = error.errors
            return self.batches.change(
                batch.id,
                lambda one: (
                    one.at(Status.FAILED, self._now(), errors=failed)
                    if one.status == Status.VALIDATING
                    else one
                ),
            )
        Parts(self._store, batch.id).write(lines)
        model = str(lines[0].pictures[0].request.model)
        place, count = self._service.settings.models[model].place, len(lines)
        return self.batches.change(
            batch.id,
            lambda one: (
                one.at(Status.IN_PROGRESS, self._now(), model=model, place=place, lines=count)
                if one.status == Status.VALIDATING
                else one
            ),
        )

    # --- Fill and answer --------------------------------------------------------------------------

    def _work(self, batch: Batch) -> Batch:
        """Answer what has come, queue what there is room for, and begin the end after the last."""
        parts = Parts(self._store, batch.id)
        every = parts.every() if batch.model else []
        over, claimed = parts.over(), parts.claimed()
        for number in sorted(claimed - set(over)):
            self._check_time()
            answered = self._answer(batch, parts, every[number])
            over |= {number: answered} if answered else {}
        waiting = len(claimed - set(over))
        unclaimed = [part for part in every if part.number not in claimed]
        if self._giving_up(batch):
            for part in unclaimed:
                self._check_time()
                answered = self._give_up(batch, parts, part)
                over |= {part.number: answered} if answered else {}
        else:
            self._fill(batch, parts, unclaimed, waiting)
        if len(over) < len(every):
            return batch
        return self._begin_end(batch, over)

    def _giving_up(self, batch: Batch) -> str:
        """Return why nothing more is queued; empty if something is."""
        if batch.status == Status.CANCELLING:
            return CANCELLED
        return EXPIRED if self._now() >= batch.expires else ""

    def _fill(self, batch: Batch, parts: Parts, unclaimed: Sequence[Part], waiting: int) -> None:
        """Claim and queue parts up to the window."""
        model, payment = self._service.settings.models.get(batch.model), self._payment(batch)
        if model is None or model.queue is None or payment is None:
            return  # it is no longer offered, or nobody pays; the batch expires
        for part in unclaimed[: max(_window(model) - waiting, 0)]:
            self._check_time()
            numbers = range(part.first, part.first + part.pictures)
            attempts = {str(number): 1 for number in numbers}
            sent = Sent(self._now() + LONGEST, attempts)
            tag = parts.claim(part, sent)
            if tag is not None and not self._send(batch, parts, part, sent, tag, list(numbers)):
                return  # no room, no money, or no endpoint; the next invocation tries again

    def _send(
        self, batch: Batch, parts: Parts, part: Part, sent: Sent, tag: str, numbers: list[int]
    ) -> bool:
        """Queue pictures of a claimed part, and note where they come; return if all were."""
        pictures, payment = numbered(part, parts.lines(part)), self._payment(batch)

        def send(number: int) -> tuple[str | None, str | None] | GatewayError:
            try:
                return self._queue(batch, payment, number, pictures[number])
            except GatewayError as error:
                return error

        # The first alone: of what is refused for money or for want of an endpoint, all would be.
        outcomes = [send(numbers[0])]
        if _is_refused_for_all(outcomes[0]):
            outcomes *= len(numbers)
        else:
            outcomes += in_parallel(send, numbers[1:])
        done = _noted(sent, dict(zip(numbers, outcomes, strict=True)))
        parts.claim_again(part, done, tag)
        if done.refused and not done.unsent:
            # No event will come for them. What is unsent would be queued again at once, and be
            # refused again; the next invocation does that, and answers the part in the end.
            self._answer(batch, parts, part)
        return not done.unsent

    def _queue(
        self, batch: Batch, payment: Payment | None, number: int, picture: Picture
    ) -> tuple[str | None, str | None]:
        """Queue a picture, and return where it and its failure come; raises GatewayError."""
        if payment is None:
            raise StoreUnavailable("Nobody pays for the batch any more.")
        log = LogRecord(method="EVENT", route=places.BATCHES)
        call = Call(payment, log, Deadline(float("inf")), trace=f"batch {batch.id} {number}")
        self._service.check_prompt(call, picture.request.prompt)
        resolved = self._service.resolve(call, picture.request)
        # The window is the limit of a batch, not that of single pictures.
        payment.counted.add(resolved.id)
        queued = self._service.queue(
            call,
            resolved,
            places.output_folder(batch.id),
            places.output_file(number, picture),
            places.inference_id(batch.id, number),
            TIMEOUTS,
        )
        check_locations(self._pictures(batch), queued.output, queued.failure)
        return queued.output, queued.failure

    def _answer(self, batch: Batch, parts: Parts, part: Part) -> tuple[int, int] | None:
        """Write the results of a part whose pictures have all come or failed.

        What was lost, or failed by accident, for the first time, is queued again. Returns how many
        lines have succeeded and failed; None if some pictures are still on their way.
        """
        claimed = parts.sent(part)
        if claimed is None:
            return None
        sent, tag = claimed
        lines, giving_up = parts.lines(part), self._giving_up(batch)
        pictures = numbered(part, lines)
        store = self._pictures(batch)
        looked = in_parallel(
            lambda number: self._look(batch, store, sent, number, pictures[number]), list(pictures)
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
            if self._payment(batch) is not None:
                self._again(batch, parts, part, sent, tag, again)
            return None
        elif left:
            return None
        return self._write(batch, parts, part, lines, found, store, giving_up)

    def _look(
        self, batch: Batch, store: Store, sent: Sent, number: int, picture: Picture
    ) -> _Picture:
        described = sent.refused.get(str(number))
        if described is not None:
            return _Picture(error=described)
        output, failure = sent.runs.get(str(number), (None, None))
        folder, file = places.output_folder(batch.id), places.output_file(number, picture)
        key = store.key_of(output) or f"outputs/{folder}/{file}"
        if store.size(key) is not None:
            return _Picture(key)
        reason = store.key_of(failure)
        written = store.read(reason) if reason else None
        if written is None:
            return _Picture()
        error = failure_of(written.body.decode(errors="replace"))
        return _Picture(error=_described(error), again=not isinstance(error, CallerFault))

    def _again(
        self, batch: Batch, parts: Parts, part: Part, sent: Sent, tag: str, numbers: list[int]
    ) -> None:
        """Queue pictures again, unless another invocation does."""
        store = self._pictures(batch)
        for number in numbers:
            key = store.key_of(sent.runs.get(str(number), (None, None))[1])
            if key:
                # Before the claim: the next run's failure may have the same name.
                store.delete(key)
        attempts = dict(sent.attempts)
        for number in set(numbers) - set(sent.unsent):
            attempts[str(number)] += 1
        claimed = Sent(
            self._now() + LONGEST,
            attempts,
            {number: run for number, run in sent.runs.items() if int(number) not in numbers},
            tuple(number for number in sent.unsent if number not in numbers),
            sent.refused,
        )
        new = parts.claim_again(part, claimed, tag)
        if new is not None:
            self._send(batch, parts, part, claimed, new, numbers)

    def _write(
        self,
        batch: Batch,
        parts: Parts,
        part: Part,
        lines: Sequence[Line],
        found: dict[int, _Picture],
        store: Store,
        giving_up: str,
    ) -> tuple[int, int] | None:
        numbers = iter(found)
        rows = {}
        for line in lines:
            own = [found[next(numbers)] for _ in line.pictures]
            rows[line.custom_id] = _row(batch, line, own, store, giving_up)
        failed = {name: row for name, row in rows.items() if not results.is_success(row)}
        decided = parts.decide(part, failed)
        if set(failed) - set(decided):
            return None  # another has found more; the next look does, too
        succeeded = [row for name, row in rows.items() if name not in decided]
        parts.answer(part, results.to_jsonl(succeeded), results.to_jsonl(decided.values()),
                     (len(succeeded), len(decided)))  # fmt: skip
        return len(succeeded), len(decided)

    def _give_up(self, batch: Batch, parts: Parts, part: Part) -> tuple[int, int] | None:
        """Answer a part that nobody has claimed, and that nobody can claim any more."""
        numbers = tuple(range(part.first, part.first + part.pictures))
        if parts.claim(part, Sent(self._now(), unsent=numbers)) is None:
            return None
        return self._answer(batch, parts, part)

    # --- End --------------------------------------------------------------------------------------

    def _begin_end(self, batch: Batch, over: dict[int, tuple[int, int]]) -> Batch:
        now = self._now()
        completed, failed = _sum(over)
        files = places.new_id(now), places.new_id(now)
        reasons = {CANCELLED: Status.CANCELLED, EXPIRED: Status.EXPIRED}
        ending = str(reasons.get(self._giving_up(batch), Status.COMPLETED))

        def ended(one: Batch) -> Batch:
            if one.ending or one.is_over:
                return one
            changes: dict[str, Any] = {
                "ending": ending,
                "completed": completed,
                "failed": failed,
                "output": files[0] if completed else None,
                "error_output": files[1] if failed else None,
            }
            if one.status == Status.IN_PROGRESS:
                return one.at(Status.FINALIZING, now, **changes)
            return replace(one, **changes)

        return self.batches.change(batch.id, ended)

    def _end(self, batch: Batch) -> Batch:
        sizes = Output(self._store, batch.id, self._check_time).put_together()
        named = {OUTPUT: batch.output, ERRORS: batch.error_output}
        now = int(self._now())
        for name, identifier in named.items():
            if identifier and name in sizes:
                key = places.finished(batch.id, name)
                title = f"batch_{batch.id}_{name}.jsonl"
                file = File(identifier, title, "batch_output", now, sizes[name], key)
                self.files.describe(batch.owner, file)
        status = Status(batch.ending)
        return self.batches.change(
            batch.id, lambda one: one if one.is_over else one.at(status, now)
        )

    # --- Small things -----------------------------------------------------------------------------

    def _go_on(self, identifier: str, going: Stored | None) -> None:
        """Have an event continue the work, unless one has come up since `going` was read.

        Then that one continues it; of any number of invocations at a time, one has a successor.
        """
        # Tags are those of contents: equal ones would look like the same version.
        key, content = places.go(identifier), secrets.token_hex(8).encode()
        if going is None:
            self._store.create(key, content)
        else:
            self._store.replace(key, content, going.tag)

    def _payment(self, batch: Batch) -> Payment | None:
        """Return what pays for the pictures; None if the key is gone, or has expired."""
        for key in self._service.settings.protection.keys:
            if key.name == batch.key and not _has_expired(key, self._now()):
                return Payment(Principal(AuthMethod.KEY, key))
        return None

    def _pictures(self, batch: Batch) -> Store:
        """Return where the batch's pictures come, also of a model that is no longer offered."""
        bucket, prefix = batch.place or ("", "")
        return self._service.store_of(bucket, prefix)

    def _check_time(self) -> None:
        if shared().remaining < _STEP_SECONDS:
            raise _NoTime


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
                {"b64_json": _encoded(store, one.key, picture.request.format)}
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
    return int(min(max(pictures / 8, _FEWEST_PARTS), _MOST_PARTS))


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


def _sum(over: dict[int, tuple[int, int]]) -> tuple[int, int]:
    return sum(one[0] for one in over.values()), sum(one[1] for one in over.values())
