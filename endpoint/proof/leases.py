"""The checks of what ends an endpoint: its schedule, and the guard."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from endpoint.core.problems import ScriptError, TookTooLong
from endpoint.proof.subject import Observation, Subject
from endpoint.provision.serving import lease

_AHEAD = timedelta(seconds=90)
# Scheduler is within a minute of a schedule's moment; the guard, which would hide a failure of it,
# comes at most five minutes later.
_LATEST = 240
_GUARD_SECONDS = 660


def guard_counts(subject: Subject) -> Observation:
    """Whether the guard, called by its own schedule, has written what the month has cost."""
    context, wanted = subject.context, {subject.real_time, subject.asynchronous}

    def missing() -> set[str]:
        return wanted - set((lease.spending(context) or {}).get("endpoints", ()))

    def poll() -> str | None:
        # It can have come before both of them existed.
        return (
            f"waiting for the guard to count {', '.join(sorted(missing()))}" if missing() else None
        )

    with suppress(TookTooLong):
        context.waiting.until_done(poll, at_most=_GUARD_SECONDS, every=15)
    counted = lease.spending(context) or {}
    listed = ", ".join(sorted(counted.get("endpoints", ()))) or "nothing"
    return Observation(not missing(), f"{counted.get('usd', 0):.2f} USD for {listed}")


def lease_ends(subject: Subject) -> Observation:
    """Whether a schedule deletes the endpoint at its moment, with nothing but its role."""
    context, name = subject.context, subject.real_time
    scheduled = lease.find(context, name)
    if scheduled is None:
        raise ScriptError(f"{name} has no schedule")
    ends = (context.clock.now() + _AHEAD).replace(microsecond=0)
    lease.put(context, name, replace(scheduled, ends=ends), exists=True)

    def poll() -> str | None:
        found = context.endpoints.find(name)
        is_going = found is None or found["EndpointStatus"] == "Deleting"
        return None if is_going else f"waiting for the end of the lease of {name}"

    context.waiting.until_done(poll, at_most=_AHEAD.seconds + _LATEST, every=5)
    late = round((context.clock.now() - ends).total_seconds())
    return Observation(True, f"deleted {late} s after its moment", {"seconds late": late})
