"""What pictures cost, and the record of each: the meter of the image service.

A picture costs the seconds that an instance works on it, at the price of its hour. For a real-time
endpoint they are the time of the invocation, in which the container's queue is contained; for a
queued picture they are estimated when it is queued, as the model's seconds for a picture, in
proportion to its steps and its area. What AWS asks for everything else is not in it: S3, Lambda,
and the hours in which an instance waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from chalicelib.access_settings import Key
from chalicelib.auth.budget import Reservation, budgets_in
from chalicelib.auth.quota import Payment, Stores
from chalicelib.aws.deadline import ending
from chalicelib.errors import InvalidRequest, NeverReachedGpu, StoreUnavailable
from chalicelib.generation import GenerationRequest
from chalicelib.settings import Model, Settings
from chalicelib.telemetry import logger
from chalicelib.usage_records import Kind, UsageRecord

COST = "X-Cost-USD"


@dataclass(frozen=True)
class Price:
    """What a picture is expected to take: seconds and dollars; None for what is not known."""

    seconds: float | None = None
    usd: float | None = None


class Meter:
    """Measures what pictures cost.

    Args:
        settings: the gateway's.
        stores: used only if usage is recorded.
        now: seconds since 1970.
        clock: seconds, by a clock that never jumps.
    """

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._now = now
        self._clock = clock
        self._store = None
        if settings.usage is not None:
            self._store = stores(*settings.usage)
            self._budgets = budgets_in(settings.usage, stores, now)

    def price(self, request: GenerationRequest) -> Price:
        """Return what a complete request is expected to take."""
        model = self._settings.models.get(str(request.model))
        if model is None or model.seconds is None:
            return Price()
        seconds = model.seconds * _effort(model, request)
        return Price(seconds, self._usd(request, seconds))

    def report(self, payment: Payment, request: GenerationRequest, *, painted: bool) -> None:
        """Report the expected cost of a picture that was begun before; else that it costs nothing.

        Args:
            payment: has the headers of the response.
            request: complete.
            painted: whether the response is to report what painting it costs.
        """
        usd = self.price(request).usd if painted else self._usd(request, 0)
        if usd is not None:
            _add(payment, usd)

    def check(self, payment: Payment, request: GenerationRequest, longest: float | None) -> None:
        """Raise what `run` would raise, and reserve nothing."""
        key = self._payer(payment)
        if key is not None:
            self._budgets.check(key, self._most(request, longest))

    def check_queued(self, payment: Payment, requests: Iterable[GenerationRequest]) -> None:
        """Raise what `run` would raise at the latest, if all of these were queued at once."""
        key = self._payer(payment)
        if key is not None:
            self._budgets.check(key, sum(self._most(one, None) for one in requests))

    @contextmanager
    def run(
        self, payment: Payment, request: GenerationRequest, longest: float | None
    ) -> Iterator[None]:
        """Charge for a run that the body of the context starts, and record it.

        Args:
            payment: pays.
            request: complete.
            longest: the most seconds that an invocation can take, which the body is; None if the
                body queues the picture, whose seconds are estimated.

        Raises:
            BudgetUsed: if the caller's key cannot pay the most that it can cost; nothing is begun.
            StoreUnavailable: if S3 does not confirm that; likewise.
        """
        key, reservation = self._payer(payment), None
        if key is not None:
            reservation = self._budgets.reserve(key, self._most(request, longest))
        started = self._clock()

        def charge(kind: Kind) -> None:
            measured = self._clock() - started if longest is not None else self._estimate(request)
            self._charge(payment, request, reservation, kind, measured)

        kind = Kind.ASYNCHRONOUS if longest is None else Kind.REALTIME
        try:
            yield
        except (NeverReachedGpu, InvalidRequest):  # the container checks before it uses the GPU
            if reservation is not None:
                self._end(lambda: self._budgets.refund(reservation))
            raise
        except Exception:
            # A queued run may be in progress; an invocation ended without a picture.
            charge(kind if longest is None else Kind.FAILED)
            raise
        charge(kind)

    def _charge(
        self,
        payment: Payment,
        request: GenerationRequest,
        reservation: Reservation | None,
        kind: Kind,
        seconds: float,
    ) -> None:
        usd = self._usd(request, seconds)
        if usd is not None:
            _add(payment, usd)
        store = self._store
        if store is None:
            return
        key, link = payment.principal.key, payment.principal.link
        record = UsageRecord.now(
            self._now(),
            str(request.model),
            kind,
            seconds,
            usd or 0,
            None if key is None else key.name,
            None if link is None else link.id,
        )
        self._end(lambda: store.write(record.to_key(), b""))
        if reservation is not None:
            self._end(lambda: self._budgets.settle(reservation, usd or 0))

    def _end(self, work: Callable[[], None]) -> None:
        """Do what must not keep a picture from its caller, however late it is."""
        try:
            with ending():
                work()
        except StoreUnavailable:
            # One picture is missing in what was used; its reservation will be spent in full.
            logger.warning("usage not recorded")

    def _payer(self, payment: Payment) -> Key | None:
        """Return the key whose budget pays; None if it has none."""
        key = payment.principal.key
        return key if key is not None and key.usd_per_month is not None else None

    def _most(self, request: GenerationRequest, longest: float | None) -> float:
        """Return the most dollars that a run can cost."""
        if longest is None:
            seconds = self._estimate(request)
        else:
            seconds = min(longest, self._settings.deadline_seconds)
        return self._usd(request, seconds) or 0

    def _estimate(self, request: GenerationRequest) -> float:
        """Return the seconds of a queued picture; where they are unknown, those of a deadline."""
        seconds = self.price(request).seconds
        return self._settings.deadline_seconds if seconds is None else seconds

    def _usd(self, request: GenerationRequest, seconds: float) -> float | None:
        model = self._settings.models.get(str(request.model))
        if model is None or model.usd_per_hour is None:
            return None
        return seconds * model.usd_per_hour / 3_600


def _add(payment: Payment, usd: float) -> None:
    # Pictures of one call are generated in parallel; appending to a list is atomic.
    payment.costs.append(usd)
    payment.headers[COST] = f"{sum(payment.costs):.6f}"


def _effort(model: Model, request: GenerationRequest) -> float:
    """Return how many times as long as a picture of the model's own steps and size one takes."""
    used = {**model.defaults, **request.to_dict()}
    factor = 1.0
    for name in ("steps", "width", "height"):
        usual = model.defaults.get(name)
        if usual:
            factor *= used[name] / usual
    return factor
