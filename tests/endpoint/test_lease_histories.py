"""Random histories of scripts, visitors and time: leases and the cap, with AWS's own parts.

The stack, its schedules, its guard and its roles are the emulator's, whose clock moves here. The
guard alone goes through many more histories in `test_guard.py`.
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from moto.s3.models import s3_backends
from moto.sagemaker.models import SageMakerModelBackend, sagemaker_backends
from moto.scheduler.models import scheduler_backends

from chalicelib.errors import EndpointMissing, EndpointUnavailable
from chalicelib.images.lease import Leases
from chalicelib.settings import Lease, Model
from endpoint import create_endpoint
from endpoint.catalogue import prices
from endpoint.commands import start, stop
from endpoint.emulator.sagemaker.control_plane import lifecycle, settle
from endpoint.provision.files import payload
from tests.conftest import ALL
from tests.endpoint.doubles import BUCKET, create
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, Crash, empty_account
from tests.gateway.doubles import Provided

pytestmark = pytest.mark.slow
NAME, GROUP, CAP = "easel-main-sd", "easel-main", 3.0
MINUTE = 60
MOST_CALLS = 60
# Each takes about a fifth of a second, half of it for the guard's calls, half for the scripts'.
EXAMPLES = 90 if ALL else 4
SCRIPTS = {"create": create_endpoint, "start": start, "stop": stop}


@dataclass(frozen=True)
class Step:
    """What happens: a script, a visitor, or minutes that pass.

    Attributes:
        kind: a key of `SCRIPTS`, use, wake, time or jump.
        lease: of a script.
        minutes: that pass.
        trouble: the number of an AWS call, and what happens at it.
    """

    kind: str
    lease: str
    minutes: int
    trouble: tuple[int, str] | None


STEPS = st.builds(
    Step,
    st.sampled_from(["create", "start", "stop", "use", "wake", "wake", "time", "time", "jump"]),
    st.sampled_from(["30m", "1h", "never"]),
    st.integers(1, 45),
    st.none() | st.tuples(st.integers(0, MOST_CALLS), st.sampled_from(["before", "after"])),
)
# What is out of order in a history.
BROKEN = ("nothing", "schedules", "gateway")


class Account:
    """A deployment with a cap, one history after the other."""

    def __init__(self, world, folder):
        self.world, self._folder = world, folder
        self.broken, self.spent, self.dearest = "nothing", 0.0, 0.0
        self._sleep = world.sleep
        world.sleep = self._pass
        carry_out = world.schedules._carry_out

        def unless_broken(account, region, schedule):
            if self.broken != "schedules" or schedule.name == "guard":
                carry_out(account, region, schedule)

        world.schedules._carry_out = unless_broken
        # A role's policies stay as they are, and to read them took a third of the guard's calls.
        world.schedules._allows = cache(world.schedules._allows)

    def empty(self, broken):
        """Forget all endpoints and what they have cost."""
        self.world.revive()
        self.world.forget_calls()
        self.broken, self.spent, self.dearest = broken, 0.0, 0.0
        sagemaker_backends[ACCOUNT][REGION].reset()
        s3_backends[ACCOUNT]["aws"].buckets[BUCKET].keys.clear()
        scheduler_backends[ACCOUNT][REGION].schedule_groups[GROUP].schedules.pop(NAME, None)
        self.leases = Leases(
            Provided(self.world.client("scheduler")),
            Provided(self.world.client("sagemaker")),
            lambda: self.world.now().timestamp(),
        )

    def _pass(self, seconds):
        """Let time pass in pieces, each of which costs what exists at its beginning."""
        until = self.world.seconds + seconds
        while self.world.seconds < until:
            if not settle(sagemaker_backends[ACCOUNT][REGION]):
                # Nothing can outlive or cost anything: one run of the guard shows as much as many.
                self.world.seconds = until
                self._sleep(0)
                return
            piece = min(MINUTE, until - self.world.seconds)
            self._pay(piece)
            self._sleep(piece)
            self.check()

    def _pay(self, seconds):
        usd = sum(
            lifecycle(endpoint).instances(name) * each.usd_per_hour
            for endpoint in settle(sagemaker_backends[ACCOUNT][REGION]).values()
            for name, each in prices.instance_types().items()
        )
        self.dearest = max(self.dearest, usd)
        self.spent += usd * seconds / 3600

    def check(self):
        """What must hold whenever time has passed."""
        assert self.spent <= CAP + self.dearest, self.ledger()
        lease = self.lease()
        if lease is None or lease["State"] != "ENABLED":
            return
        states = [e.endpoint_status for e in settle(sagemaker_backends[ACCOUNT][REGION]).values()]
        ends = self.world.moment_of(lease["ScheduleExpression"])
        late = self.world.now() - ends > timedelta(minutes=5)
        assert not late or set(states) <= {"Deleting", "Failed", "Creating", "Updating"}

    def lease(self):
        """Return the endpoint's schedule; None if there is none."""
        schedules = scheduler_backends[ACCOUNT][REGION].schedule_groups[GROUP].schedules
        return schedules[NAME].to_dict() if NAME in schedules else None

    def ledger(self):
        """Return what the guard has counted."""
        key = f"spend/{self.world.now():%Y-%m}.json"
        stored = s3_backends[ACCOUNT]["aws"].buckets[BUCKET].keys.get(key)
        return json.loads(stored.value) if stored else {}

    def take(self, step):
        """Take a step of a history."""
        if step.kind in SCRIPTS:
            self._run(step)
        elif step.kind == "time":
            self._pass(step.minutes * MINUTE)
        elif step.kind == "jump":
            self._pay(step.minutes * MINUTE)
            self.world.seconds += step.minutes * MINUTE
            self._sleep(0)
        elif self.broken != "gateway" and self.ledger().get("state") != "reached":
            self._visit(wakes=step.kind == "wake")

    def _run(self, step):
        options = ["--yes", "--model", "sd"]
        options += [] if step.kind == "stop" else ["--lease", step.lease]
        options += ["--image", IMAGE, "--weights", "fetch"] if step.kind == "create" else []
        if step.trouble:
            self.world.trouble_at(*step.trouble)
        printed = io.StringIO()
        with (
            contextlib.suppress(Crash),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            self.world.run(SCRIPTS[step.kind].main, *options)
        self.world.revive()

    def _visit(self, *, wakes):
        serves = any(
            lifecycle(endpoint).status == "InService"
            for endpoint in settle(sagemaker_backends[ACCOUNT][REGION]).values()
        )
        model = Model("sd", NAME, lease=Lease(GROUP, NAME, wake=True))
        with contextlib.suppress(EndpointUnavailable), self.leases.used(model, wakes=wakes):
            if not serves:
                raise EndpointMissing("The model has no endpoint at the moment.")
        for thread in threading.enumerate():
            if thread.name == "lease":
                thread.join()


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code")
    (folder / "inference.py").write_text("import generation\n")

    def created(self, endpoint_name, *arguments, **options):
        schedule = (
            scheduler_backends[ACCOUNT][REGION].schedule_groups[GROUP].get_schedule(endpoint_name)
        )
        text = schedule.schedule_expression
        ends = datetime.strptime(text, "at(%Y-%m-%dT%H:%M:%S)").replace(tzinfo=UTC)
        # A lease exists before what it ends, and has not ended.
        assert schedule.state == "DISABLED" or ends > holder.world.now()
        return create_original(self, endpoint_name, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch, empty_account() as world:
        patch.setattr(payload, "CODE", folder)
        world.endpoints.create_seconds = world.endpoints.update_seconds = 30
        world.endpoints.delete_seconds = 15
        world.schedules_run = True
        assert create(world, "--monthly-cap", f"{CAP:g}", "--email", "a@b.example", "--wake") == 0
        holder, create_original = Account(world, folder), SageMakerModelBackend.create_endpoint
        patch.setattr(SageMakerModelBackend, "create_endpoint", created)
        yield holder


@pytest.mark.parametrize("broken", BROKEN)
def test_no_endpoint_outlives_its_lease_and_no_month_its_cap(account, broken):
    # Without a search for a smaller example: each takes some calls of AWS.
    @settings(
        max_examples=EXAMPLES,
        suppress_health_check=[HealthCheck.too_slow],
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
    )
    @given(st.lists(STEPS, min_size=2, max_size=6))
    def check(history):
        account.empty(broken)
        for step in history:
            account.take(step)
        account.take(Step("time", "", 40, None))

    check()


def test_each_schedule_was_carried_out_with_the_rights_of_its_role(account):
    assert [each for each in account.world.schedules.failed if "does not allow" in each] == []
    assert [each for each in account.world.schedules.failed if "cannot assume" in each] == []
