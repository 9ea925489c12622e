"""A lease from the gateway's side, in an account with the stack, the guard and a clock."""

import json
import threading
from datetime import timedelta

import pytest

from chalicelib.errors import (
    EndpointAsleep,
    EndpointMissing,
    EndpointUnavailable,
    EndpointWaking,
)
from chalicelib.images.lease import WAKE_SECONDS, Leases
from chalicelib.settings import Lease, Model, Queue
from endpoint.commands import stop
from tests.endpoint.doubles import create
from tests.endpoint.world import empty_account
from tests.gateway.doubles import Provided

NAME = "easel-main-sd"
HOUR = 3600


class Account:
    """A deployment with one real-time endpoint, and the gateway's leases of it."""

    def __init__(self, world):
        self.world = world
        self.scheduler, self.sagemaker = world.client("scheduler"), world.client("sagemaker")
        self.model = Model("sd", NAME, lease=Lease("easel-main", NAME, wake=True))
        self.restart()

    def restart(self):
        """Start another instance of the gateway, which knows nothing."""
        self.leases = Leases(
            Provided(self.scheduler), Provided(self.sagemaker), lambda: self.world.now().timestamp()
        )

    def use(self, error=None, wakes=True):
        """Use the model; its endpoint raises an error, or returns a picture."""
        try:
            with self.leases.used(self.model, wakes=wakes):
                if error is not None:
                    raise error
        finally:
            for thread in threading.enumerate():
                if thread.name == "lease":
                    thread.join()

    def missing(self, wakes=True):
        """Use the model while its endpoint takes no requests; return the gateway's error."""
        with pytest.raises(EndpointUnavailable) as caught:
            self.use(EndpointMissing("no endpoint"), wakes)
        return caught.value

    @property
    def ends(self):
        """The seconds until the lease ends."""
        text = self.schedule["ScheduleExpression"]
        return (self.world.moment_of(text) - self.world.now()) / timedelta(seconds=1)

    @property
    def schedule(self):
        return self.scheduler.get_schedule(GroupName="easel-main", Name=NAME)

    @property
    def statuses(self):
        return [each["EndpointStatus"] for each in self.sagemaker.list_endpoints()["Endpoints"]]


@pytest.fixture(scope="module")
def deployed():
    with empty_account() as world:
        world.schedules_run = True
        assert create(world, "--wake") == 0
        yield world


@pytest.fixture
def account(deployed):
    """The endpoint in service, with all of its lease of two hours left."""
    account = Account(deployed)
    if not account.statuses:
        assert create(deployed) == 0
    account.world.sleep(200)
    account.restart()
    assert create(deployed) == 0
    return account


def test_use_renews_the_lease_when_a_quarter_is_gone_and_not_before(account):
    account.world.sleep(HOUR / 4)
    account.use()
    assert account.ends == pytest.approx(1.75 * HOUR, abs=2)
    account.world.sleep(HOUR / 4 + 60)
    account.use()
    assert account.ends == pytest.approx(2 * HOUR, abs=2)


def test_an_instance_asks_at_most_once_in_a_quarter_of_the_lease(account):
    calls = []
    find = account.scheduler.get_schedule
    account.leases = Leases(
        Provided(_Counted(account.scheduler, calls)), Provided(None), account.leases._now
    )
    for _ in range(24):  # two hours of use
        account.use()
        account.world.sleep(HOUR / 12)
    assert calls.count("update_schedule") <= 4
    assert calls.count("get_schedule") <= 5
    assert find(GroupName="easel-main", Name=NAME)["State"] == "ENABLED"


class _Counted:
    """A client that notes its calls."""

    def __init__(self, client, calls):
        self._client, self._calls = client, calls

    def __getattr__(self, name):
        self._calls.append(name)
        return getattr(self._client, name)


def test_what_cannot_be_renewed_fails_no_picture(account):
    account.scheduler.delete_schedule(GroupName="easel-main", Name=NAME)
    account.use()
    account.leases = Leases(Provided(_Broken()), Provided(_Broken()))
    account.use()


class _Broken:
    """A client of a service that is out of order."""

    def __getattr__(self, name):
        from botocore.exceptions import ConnectTimeoutError

        raise ConnectTimeoutError(endpoint_url="https://example")


def test_an_unused_endpoint_is_deleted_and_a_key_wakes_it_after_its_new_lease(account):
    account.world.sleep(2 * HOUR + 60)
    assert account.statuses == []
    assert account.missing(wakes=False).code == "endpoint_asleep"
    assert account.statuses == []
    error = account.missing()
    assert (type(error), error.retry_after) == (EndpointWaking, WAKE_SECONDS)
    assert account.statuses == ["Creating"]
    assert account.ends == pytest.approx(2 * HOUR, abs=2)
    account.world.sleep(60)
    # It is being created: nobody wakes it twice, and the wait is shorter now.
    assert account.missing().retry_after < WAKE_SECONDS
    account.world.sleep(60)
    assert account.statuses == ["InService"]
    (arn,) = [each["EndpointArn"] for each in account.sagemaker.list_endpoints()["Endpoints"]]
    tags = {
        tag["Key"]: tag["Value"] for tag in account.sagemaker.list_tags(ResourceArn=arn)["Tags"]
    }
    assert tags == {"easel": "main", "easel:usd-per-hour": "1.408"}
    account.world.sleep(2 * HOUR + 60)
    assert account.statuses == []


def test_without_the_owners_leave_nobody_wakes_it(account):
    account.world.sleep(2 * HOUR + 60)
    account.model = Model("sd", NAME, lease=Lease("easel-main", NAME))
    error = account.missing()
    assert isinstance(error, EndpointAsleep)
    assert "python -m endpoint start --name main --model sd" in error.message
    assert account.statuses == []


def test_what_its_owner_has_stopped_stays_stopped(account):
    assert account.world.run(stop.main, "--yes") == 0
    assert isinstance(account.missing(), EndpointAsleep)
    assert account.statuses == []
    assert account.schedule["State"] == "DISABLED"


def test_a_model_with_a_queue_wakes_nobody(account):
    account.world.sleep(2 * HOUR + 60)
    queue = Queue("easel-main-slow", "bucket", "jobs/")
    account.model = Model("sd", NAME, queue, lease=account.model.lease)
    assert isinstance(account.missing(), EndpointAsleep)
    assert account.statuses == []


def test_an_expired_lease_is_not_renewed_by_a_late_request(account):
    account.world.schedules_run = False
    account.world.sleep(2 * HOUR + 60)
    account.use()
    assert account.ends < 0
    account.world.schedules_run = True
    account.world.sleep(60)
    assert account.statuses in ([], ["Deleting"])


def test_the_schedule_keeps_everything_but_its_moment(account):
    before = account.schedule
    account.world.sleep(HOUR)
    account.use()
    after = account.schedule
    changing = ("ScheduleExpression", "LastModificationDate", "ResponseMetadata")
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    assert json.loads(after["Target"]["Input"]) == {"EndpointName": NAME}
