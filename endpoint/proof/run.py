"""A proof from its first step to its last; whatever happens, everything is deleted at the end."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from endpoint.catalogue import models, prices
from endpoint.catalogue.beliefs import beliefs
from endpoint.cli.context import Context
from endpoint.cli.options import DeployOptions
from endpoint.core.http import Ask
from endpoint.core.problems import ScriptError, translated
from endpoint.proof import checks
from endpoint.proof.checks import CHECKS, wake_from_zero
from endpoint.proof.leases import lease_ends
from endpoint.proof.meter import CostLimit, Meter
from endpoint.proof.record import Proof
from endpoint.proof.subject import Check, Subject
from endpoint.proof.training import TRAINING
from endpoint.proof.updates import MOST_INSTANCES
from endpoint.proof.visitor import Visitor
from endpoint.provision import checks as preparations
from endpoint.provision import removal
from endpoint.provision.gateway import gateway
from endpoint.provision.serving import endpoint, in_service

_PICTURES = 3
_CHEAP = 1.5  # USD per hour
_CLEAN_UPS = 3
_FIRST_ANSWER_SECONDS = 300
# An update and its rollback; until they end, the endpoint cannot be deleted.
_UPDATE_SECONDS = 900
# The proof's real-time model is the first, and the asynchronous one the second.
REAL_TIME, ASYNCHRONOUS = "sd", "sdxl"


@dataclass
class Run:
    """A proof's surroundings.

    Args:
        context: the deployment; its clock ends a wait that would cost too much.
        options: of `deploy`.
        ask: sends a request to the gateway.
        key: valid at the gateway.
        meter: counts the cost.
        proof: the record.
    """

    context: Context
    options: DeployOptions
    ask: Ask
    key: str
    meter: Meter
    proof: Proof

    def prove(self) -> None:
        """Deploy, use, check and measure.

        Raises:
            ScriptError: if a step fails; beliefs that do not hold are recorded instead.
        """
        endpoints = self._endpoint(REAL_TIME), self._endpoint(ASYNCHRONOUS)
        with _recorded_states(self.context) as states:
            self._check_account()
            subject = Subject(self.context, *endpoints, states)
            self._create(REAL_TIME)
            self._update(checks.UPDATES_OF_REAL_TIME, REAL_TIME, subject, MOST_INSTANCES)
            self._create(ASYNCHRONOUS)
            visitor = self._deploy()
        self._use(visitor)
        subject = replace(subject, gateway=visitor)
        self._check_all(checks.WITH_BOTH, subject)
        self._measure(visitor, REAL_TIME)
        self._measure(visitor, ASYNCHRONOUS)
        # What follows takes long, and the other endpoint would cost money meanwhile.
        self._check(lease_ends.__name__, subject)
        self._stop(REAL_TIME)
        self._update(checks.UPDATES_OF_ASYNCHRONOUS, ASYNCHRONOUS, subject, 1)
        self._check(wake_from_zero.__name__, subject)
        self._stop(ASYNCHRONOUS)
        self._check_all((*TRAINING, *checks.AFTERWARDS), subject)

    def _check_account(self) -> None:
        with self._step("checks"):
            for name in (REAL_TIME, ASYNCHRONOUS):
                preparations.require_good(self.context, self._options_of(name))

    def _create(self, name: str) -> None:
        with self._step(f"create {name}") as measured:
            self.meter.start(name, price_of(self.options, name))
            # Fails before the endpoint exists if the limit is too low for it.
            self.meter.check()
            created = endpoint.create(self.context, self._options_of(name))
            measured["seconds of the first picture"] = created.warm_up_seconds
            measured["instance types"] = ", ".join(created.instance_types)

    def _deploy(self) -> Visitor:
        with self._step("gateway"):
            url, _ = gateway.deploy(self.context, self.options)
            visitor = Visitor(self.ask, url, self.key, self.context.clock)

            def poll() -> str | None:
                try:
                    status = visitor.get("health").status
                except OSError as error:
                    return f"the gateway does not answer yet ({str(error)[:80]})"
                return None if status == 200 else f"the gateway answers {status}"

            self.context.waiting.until_done(poll, at_most=_FIRST_ANSWER_SECONDS, every=5)
        return visitor

    def _use(self, visitor: Visitor) -> None:
        pictures: dict[str, Callable[[], bytes]] = {
            "Easel's URL": lambda: visitor.picture("a red apple", REAL_TIME, 1),
            "OpenAI's API": lambda: visitor.images_api("a red apple", REAL_TIME),
            "AUTOMATIC1111's API": lambda: visitor.web_ui("a red apple", 1),
            "Easel's URL, asynchronous": lambda: visitor.picture("a lighthouse", ASYNCHRONOUS, 1),
            "a job": lambda: visitor.job("a lighthouse", ASYNCHRONOUS, 2),
        }
        for name, paint in pictures.items():
            with self._step(f"a picture: {name}") as measured:
                measured["bytes"] = len(paint())

    def _update(
        self, updates: Sequence[Check], name: str, subject: Subject, instances: int
    ) -> None:
        """Run checks that can start a second fleet of an endpoint; pass them over if too dear."""
        fleet = f"the second fleet of {name}"
        self.meter.start(fleet, instances * price_of(self.options, name))
        try:
            self.meter.check(_UPDATE_SECONDS)
        except CostLimit:
            for check in updates:
                self.proof.pass_over(_belief(check.__name__), "--most has no room for it")
        else:
            self._check_all(updates, subject)
            # Whatever they did, the fleet costs money until it is gone.
            self.context.endpoints.settle(self._endpoint(name))
        self.meter.stop(fleet)

    def _check_all(self, checks: Sequence[Check], subject: Subject) -> None:
        for check in checks:
            self._check(check.__name__, subject)

    def _check(self, name: str, subject: Subject) -> None:
        belief = _belief(name)
        try:
            with self._step(f"belief: {belief}") as measured:
                seen = CHECKS[name](subject)
                measured.update(seen.measured or {})
            self.proof.find(belief, seen.words, held=seen.held)
        except CostLimit:
            raise
        # An answer of another shape than expected must not end the proof.
        except (ScriptError, LookupError, TypeError, ValueError) as error:
            self.proof.pass_over(belief, f"{type(error).__name__}: {error}")

    def _measure(self, visitor: Visitor, name: str) -> None:
        with self._step(f"{_PICTURES} pictures of {name}") as measured:
            seconds = []
            for seed in range(10, 10 + _PICTURES):
                start = self.context.clock.monotonic()
                visitor.picture("a castle in the snow", name, seed)
                seconds.append(self.context.clock.monotonic() - start)
            measured["seconds per picture, median"] = round(statistics.median(seconds), 2)

    def _stop(self, name: str) -> None:
        with self._step(f"stop {name}"):
            in_service.take_out(self.context, [self._endpoint(name)])
            self.meter.stop(name)

    def _options_of(self, name: str) -> DeployOptions:
        return replace(self.options, model=name, instance_type=types_of(self.options, name))

    def _endpoint(self, name: str) -> str:
        return self.context.deployment.endpoint(name)

    @contextmanager
    def _step(self, name: str) -> Iterator[dict[str, Any]]:
        self.context.begin(name)
        self.meter.check()
        with translated(), self.proof.step(name) as measured:
            try:
                yield measured
            except OSError as error:
                raise ScriptError(f"The public URL did not answer: {error}") from error


def _belief(check: str) -> str:
    return next(each.id for each in beliefs() if each.check == check)


def clean_up(context: Context, meter: Meter, proof: Proof) -> None:
    """Delete everything, again after a failure; record what is left.

    Args:
        context: with a clock that waits whatever it costs, for not waiting would cost more.
        meter: counts until the endpoints are gone.
        proof: the record.
    """
    for attempt in range(1, _CLEAN_UPS + 1):
        try:
            with translated(), proof.step("destroy"):
                left = removal.delete_everything(context)
        except ScriptError as error:
            proof.left = [f"unknown: {error}"]
            if attempt == _CLEAN_UPS:
                raise
            context.console.say(f"{error} Trying again.")
            proof.steps[-1].error = ""
            proof.steps[-1].measured["tried again after"] = str(error)
            continue
        proof.left = [f"{each['kind']} {each['name']}" for each in left.data["left"]]
        if not proof.left:
            break
    meter.end()
    proof.find("destroyed", ", ".join(proof.left) or "nothing is left", held=not proof.left)


@contextmanager
def _recorded_states(context: Context) -> Iterator[dict[str, list[str]]]:
    """Yield the states of endpoints, which fill up while the scripts ask for them."""
    states: dict[str, list[str]] = {}
    client = context.account.client("sagemaker")
    event = "after-call.sagemaker.DescribeEndpoint"

    def record(parsed: dict[str, Any], **_: Any) -> None:
        if "EndpointStatus" in parsed:
            name = parsed["EndpointName"].rpartition("-")[2]
            states.setdefault(name, []).append(parsed["EndpointStatus"])

    client.meta.events.register(event, record, unique_id="easel-proof")
    try:
        yield states
    finally:
        client.meta.events.unregister(event, unique_id="easel-proof")


def types_of(options: DeployOptions, name: str) -> tuple[str, ...]:
    """Return the instance types for a model, without dear ones, which would use up the limit."""
    types = options.instance_type or models.resolve(name, None).instance_types
    known = prices.instance_types()
    cheap = tuple(t for t in types if t in known and known[t].usd_per_hour <= _CHEAP)
    return cheap or types


def price_of(options: DeployOptions, name: str) -> float:
    """Return the highest price per hour of a model's endpoint in USD.

    Raises:
        ScriptError: if a price is unknown: a proof of unknown cost is not begun.
    """
    types = types_of(options, name)
    price = prices.dearest(types)
    if price is None:
        raise ScriptError(
            f"The price of {' or '.join(types)} is not known (endpoint/catalogue/prices.json).",
            "Choose another --instance-type.",
        )
    return price
