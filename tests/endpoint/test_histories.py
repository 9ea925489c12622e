"""Random histories of the scripts, with a refusal, an interruption or a death at any AWS call.

After each script, an asynchronous endpoint that exists scales as its configuration says, or the
script failed and named it. A script that was killed says nothing, so `status` has to name it; also
where an earlier script left the endpoint, and this one could not list it and refers to `status`.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.applicationautoscaling.models import applicationautoscaling_backends
from moto.cloudwatch.models import cloudwatch_backends
from moto.s3.models import s3_backends
from moto.sagemaker.models import sagemaker_backends

from endpoint import create_endpoint, delete_endpoint
from endpoint.aws.models import MOST_INSTANCES_TAG
from endpoint.commands import start, status, stop
from endpoint.emulator.sagemaker.control_plane import lifecycle, settle
from endpoint.provision.files import payload
from tests.conftest import ALL
from tests.endpoint.doubles import BUCKET, create
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, Crash, empty_account

pytestmark = pytest.mark.slow
SCRIPTS = {"create": create_endpoint, "stop": stop, "start": start, "delete": delete_endpoint}
# Scripts make about so many calls; a trouble at a later one does not happen.
MOST_CALLS = 60
TROUBLES = {
    "refusals": ("refused",),
    "deaths": ("before", "after"),
    "interruptions": ("interrupted",),
    "all": ("refused", "before", "after", "interrupted"),
}
# What a script says that could not list what is there.
REFERS_TO_STATUS = "Once AWS answers, `python -m endpoint status` shows their cost."
# Together 2,000 thorough ones.
EXAMPLES = 500 if ALL else 5


@dataclass(frozen=True)
class Step:
    """One script, and what happens meanwhile.

    Attributes:
        script: a key of `SCRIPTS`.
        options: of its command line.
        code: the version of the serving code.
        trouble: the number of an AWS call, and what happens at it.
        fails: whether SageMaker rolls updates back and cannot create endpoints.
    """

    script: str
    options: tuple[str, ...]
    code: int
    trouble: tuple[int, str] | None
    fails: bool


@st.composite
def steps(draw, kinds):
    """Draw a step with these kinds of trouble; three of four are of the asynchronous model."""
    script = draw(st.sampled_from(["create", "create", "create", *SCRIPTS]))
    model = draw(st.sampled_from(["sdxl", "sdxl", "sdxl", "sd"]))
    options = ["--yes", "--model", model]
    if script == "create":
        options += ["--image", IMAGE, "--weights", "fetch"]
        options += ["--most-instances", draw(st.sampled_from(["1", "2"]))]
        options += draw(st.sampled_from([[], ["--instance-type", "ml.g6.xlarge"]]))
        options += draw(st.sampled_from([[], [], ["--replace"]]))
    trouble = draw(st.none() | st.tuples(st.integers(0, MOST_CALLS), st.sampled_from(kinds)))
    fails = draw(st.sampled_from([False, False, False, True]))
    return Step(script, tuple(options), draw(st.integers(0, 1)), trouble, fails)


SDXL = ("--yes", "--model", "sdxl", "--weights", "fetch")


class Account:
    """An account whose stack and bucket exist, for one history after the other."""

    def __init__(self, world, folder):
        self.world, self._folder = world, folder

    def empty(self):
        """Forget all endpoints, and whatever belongs to them."""
        self.world.revive()
        self.world.forget_calls()
        for backends in (sagemaker_backends, applicationautoscaling_backends, cloudwatch_backends):
            backends[ACCOUNT][REGION].reset()
        s3_backends[ACCOUNT]["aws"].buckets[BUCKET].keys.clear()

    def run(self, step):
        """Run a script; return its exit code, None if it was killed, and what it printed."""
        (self._folder / "generation.py").write_text(f"STEPS = {step.code}\n")
        self.world.update_rolls_back = step.fails
        self.world.fails_with = "no capacity" if step.fails else None
        if step.trouble:
            self.world.trouble_at(*step.trouble)
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                code = self.world.run(SCRIPTS[step.script].main, *step.options)
        except Crash:
            code = None
        self.world.revive()
        return code, printed.getvalue()

    def status(self):
        """Return what `status` prints."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            assert self.world.run(status.main) == 0
        return printed.getvalue()

    def unscaled(self):
        """Return the asynchronous endpoints without the scaling that their configuration wants."""
        backend = sagemaker_backends[ACCOUNT][REGION]
        return [
            name
            for name, endpoint in settle(backend).items()
            if lifecycle(endpoint).fleet.async_config
            and endpoint.endpoint_status not in {"Failed", "Deleting"}
            and self._limit(name) != _most(backend, lifecycle(endpoint).fleet.config)
        ]

    def _limit(self, name):
        scaling = applicationautoscaling_backends[ACCOUNT][REGION]
        resource = f"endpoint/{name}/variant/AllTraffic"
        policies = [p for p in scaling.policies.values() if p.resource_id == resource]
        alarms = [a for a in cloudwatch_backends[ACCOUNT][REGION].alarms if a.startswith(name)]
        targets = [t[resource] for t in scaling.targets.values() if resource in t]
        if (len(policies), len(alarms), len(targets)) != (2, 1, 1):
            return None
        return targets[0].max_capacity

    def leftovers(self, endpoint):
        """Return what exists of an endpoint beside one version of each."""
        backend = sagemaker_backends[ACCOUNT][REGION]
        states = lifecycle(settle(backend)[endpoint])
        (variant,) = backend.endpoint_configs[states.fleet.config].production_variants
        own: Any = (backend.endpoint_configs, backend._models)
        versions = [name for names in own for name in names if name.rpartition("-")[0] == endpoint]
        extra = set(versions) - {states.fleet.config, variant["ModelName"]}
        return extra, states.second


def _is_told(name, told):
    # A second Ctrl-C prevents the list of resources: then the steps are named.
    steps = told.partition("This run began these steps:")[2]
    return f"{name} has lost its scaling" in told or name in steps


def _most(backend, config):
    tags = {tag["Key"]: tag["Value"] for tag in backend.endpoint_configs[config].tags}
    return int(tags[MOST_INSTANCES_TAG])


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code")
    (folder / "inference.py").write_text("import generation\n")
    (folder / "generation.py").write_text("STEPS = 0\n")
    with pytest.MonkeyPatch.context() as patch, empty_account() as world:
        patch.setattr(payload, "CODE", folder)
        world.endpoints.create_seconds = world.endpoints.update_seconds = 30
        world.endpoints.delete_seconds = 15
        assert create(world) == 0
        yield Account(world, folder)


@pytest.mark.parametrize("kinds", TROUBLES)
def test_no_history_leaves_an_asynchronous_endpoint_without_scaling_and_a_word(account, kinds):
    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(steps(TROUBLES[kinds]), min_size=1, max_size=4))
    def check(history):
        account.empty()
        unscaled = []
        for step in history:
            before = unscaled
            code, printed = account.run(step)
            unscaled = account.unscaled()
            is_silent = code is None or (REFERS_TO_STATUS in printed and unscaled == before)
            if code == 0:
                assert unscaled == [], printed
            elif unscaled:
                told = account.status() if is_silent else printed
                assert [name for name in unscaled if _is_told(name, told)] == unscaled, told
            if (code, step.script) == (0, "create"):
                endpoint = f"easel-main-{step.options[2]}"
                assert account.leftovers(endpoint) == (set(), None), printed
        last = Step("create", (*SDXL, "--image", IMAGE), 1, None, False)
        code, printed = account.run(last)
        assert (code, account.unscaled()) == (0, []), printed
        assert account.leftovers("easel-main-sdxl") == (set(), None)

    check()
