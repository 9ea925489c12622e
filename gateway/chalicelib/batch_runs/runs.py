"""The work on a batch, in steps of a few seconds that events in S3 continue.

    read      the file becomes lines and parts, or is refused with the numbers of its wrong lines
    fill      parts are claimed and queued, as many as one instance generates in half an hour
    answer    once all pictures of a part have come or failed, its results are written
    end       all parts are answered: the output is put together

`part_runs.py` does what concerns a single part, to fill and to answer it.

Each picture, each result and each change of the batch is an object whose writing is an event that
invokes the gateway's Lambda; none is needed. A rule invokes it every quarter of an hour as well,
and so does whoever asks for the batch, which repairs what a lost event or a lost Lambda has left.
"""

from __future__ import annotations

import secrets
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chalicelib.aws.deadline import shared
from chalicelib.aws.s3 import Stored
from chalicelib.batch_runs.files import File, Files
from chalicelib.batch_runs.output import ERRORS, OUTPUT, Output
from chalicelib.batch_runs.part_runs import PartRuns, payment_of
from chalicelib.batch_runs.parts import Parts
from chalicelib.batch_runs.reading import Refused, read
from chalicelib.batch_runs.records import CANCELLED, EXPIRED, Batch, Batches, Status
from chalicelib.batches import places
from chalicelib.errors import GatewayError
from chalicelib.images.service import ImageService
from chalicelib.telemetry import logger

# A step is not begun with less.
_STEP_SECONDS = 1.0


class _NoTime(Exception):
    """The step has to be continued by another invocation."""


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
            self._part_runs(batch, parts).answer(every[index])

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
        payment = payment_of(self._service.settings, batch, self._now())
        try:
            lines = read(self._service, self.files, batch, payment)
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
        runs = self._part_runs(batch, parts)
        every = parts.every() if batch.model else []
        over, claimed = parts.over(), parts.claimed()
        for number in sorted(claimed - set(over)):
            self._check_time()
            answered = runs.answer(every[number])
            over |= {number: answered} if answered else {}
        waiting = len(claimed - set(over))
        unclaimed = [part for part in every if part.number not in claimed]
        if batch.giving_up(self._now()):
            for part in unclaimed:
                self._check_time()
                answered = runs.give_up(part)
                over |= {part.number: answered} if answered else {}
        else:
            runs.fill(unclaimed, waiting)
        if len(over) < len(every):
            return batch
        return self._begin_end(batch, over)

    # --- End --------------------------------------------------------------------------------------

    def _begin_end(self, batch: Batch, over: dict[int, tuple[int, int]]) -> Batch:
        now = self._now()
        completed, failed = _sum(over)
        files = places.new_id(now), places.new_id(now)
        reasons = {CANCELLED: Status.CANCELLED, EXPIRED: Status.EXPIRED}
        ending = str(reasons.get(batch.giving_up(now), Status.COMPLETED))

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

    def _part_runs(self, batch: Batch, parts: Parts) -> PartRuns:
        return PartRuns(self._service, batch, parts, self._now, self._check_time)

    def _check_time(self) -> None:
        if shared().remaining < _STEP_SECONDS:
            raise _NoTime


def _sum(over: dict[int, tuple[int, int]]) -> tuple[int, int]:
    return sum(one[0] for one in over.values()), sum(one[1] for one in over.values())
