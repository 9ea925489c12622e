"""What pictures cost, and the record of each: the meter of the image service.

A picture costs the seconds that an instance works on it, at the price of its hour. For a real-time
endpoint they are the time of the invocation, in which the container's queue is contained; for a
queued picture they are estimated when it is queued, as the model's seconds for a picture, in
proportion to its steps and its area. What AWS asks for everything else is not in it: S3, Lambda,
and the hours in which an instance waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from chalicelib.access_settings import Key
from chalicelib.auth.budget import Budgets, Reservation
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
            bucket, prefix = settings.usage
            self._store = stores(bucket, prefix)
            self._budgets = Budgets(stores(bucket, f"{prefix}budgets/"), now)

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

    def check(self, payment: Payment, request: GenerationRequest) -> None:
        """Raise what `queued` would raise, and reserve nothing."""
        key = self._payer(payment)
        if key is not None:
            self._budgets.check(key, self._usd(request, self._seconds(request)) or 0)

    def realtime(
        self, payment: Payment, request: GenerationRequest, longest: float
    ) -> AbstractContextManager[None]:
        """Reserve what an invocation of `longest` seconds costs.

        Returns:
            A context whose body is the invocation: it is measured, paid for and recorded.

        Raises:
            BudgetUsed: if the caller's key cannot pay that.
            StoreUnavailable: if S3 does not confirm the reservation.
        """
        longest = min(longest, self._settings.deadline_seconds)
        return self._charged(payment, request, self._reserve(payment, request, longest), None)

    def queued(self, payment: Payment, request: GenerationRequest) -> AbstractContextManager[None]:
        """Reserve what a queued picture is expected to cost; otherwise as `realtime`.

        The body of the context queues it.
        """
        seconds = self._seconds(request)
        return self._charged(payment, request, self._reserve(payment, request, seconds), seconds)

    def _reserve(
        self, payment: Payment, request: GenerationRequest, seconds: float
    ) -> Reservation | None:
        key = self._payer(payment)
        if key is None:
            return None
        return self._budgets.reserve(key, self._usd(request, seconds) or 0)

    @contextmanager
    def _charged(
        self,
        payment: Payment,
        request: GenerationRequest,
        reservation: Reservation | None,
        estimate: float | None,
    ) -> Iterator[None]:
        """Charge for the body: the estimated seconds, or without an estimate those that it took."""
        started = self._clock()
        kind = Kind.REALTIME if estimate is None else Kind.ASYNCHRONOUS
        try:
            yield
        except (NeverReachedGpu, InvalidRequest):  # the container checks before it uses the GPU
            if reservation is not None:
                self._end(lambda: self._budgets.refund(reservation))
            raise
        except Exception:
            # A queued run may be in progress, an invocation ended without a picture.
            failed = Kind.FAILED if estimate is None else kind
            self._charge(payment, request, reservation, failed, estimate, started)
            raise
        self._charge(payment, request, reservation, kind, estimate, started)

    def _charge(
        self,
        payment: Payment,
        request: GenerationRequest,
        reservation: Reservation | None,
        kind: Kind,
        estimate: float | None,
        started: float,
    ) -> None:
        seconds = self._clock() - started if estimate is None else estimate
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

    def _seconds(self, request: GenerationRequest) -> float:
        """Return the seconds to charge for a queued picture; without any, those of a deadline."""
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
