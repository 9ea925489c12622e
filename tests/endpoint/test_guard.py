"""The guard's code alone, in thousands of histories of an account that is a few dictionaries here.

The same code runs in the stack, on the emulator, in `test_lease_histories.py`.
"""

from __future__ import annotations

import ast
import builtins
import io
import json
import time
from calendar import timegm
from datetime import UTC, datetime
from itertools import product
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from endpoint.provision.infrastructure import GUARD, template
from tests.conftest import ALL

CODE = compile(GUARD.read_text("utf-8"), "index.py", "exec")
MINUTE, HOUR = 60, 3600
# A day before a month ends.
START = timegm((2026, 11, 29, 22, 0, 0))
SPOT = 0.4  # of the price on demand
PRICES = {"cheap": 0.5, "dear": 2.0}
EXAMPLES = 5_000 if ALL else 100
TOPIC = "arn:aws:sns:us-east-1:123456789012:easel-main-spend"


def pooled(current, desired=0, **types):
    """Return a variant with instance pools, as DescribeEndpoint shows it."""
    pools = [{"InstanceType": name, "CurrentInstanceCount": count} for name, count in types.items()]
    counts = {"CurrentInstanceCount": current, "DesiredInstanceCount": desired}
    return {**counts, "InstancePools": pools}


class Account:
    """SageMaker, EventBridge Scheduler, S3 and SNS, as far as the guard uses them."""

    def __init__(self, cap=0.0):
        self.now = float(START)
        self.endpoints, self.schedules, self.objects = {}, {}, {}
        self.mails, self.refused, self.spent = [], set(), 0.0
        self.hours = {}  # of the leases, where they are not two
        self.jobs, self.stopped = {}, []
        self._handler = self._loaded = None
        variables = {"NAME": "main", "BUCKET": "bucket", "TOPIC": TOPIC, "CAP": cap}
        variables |= {"DEAREST": 2.0, "PICTURE": 0.001, "PRICES": json.dumps(PRICES)}
        self.variables = {key: str(value) for key, value in variables.items()}

    def run(self):
        """Run the guard once; as in Lambda, its module is loaded once for the same variables."""
        variables = dict(self.variables)
        if self._loaded != variables:
            self._handler, self._loaded = self._load(variables), variables
        self._handler({}, None)

    def _load(self, variables):
        replaced = {
            "boto3": SimpleNamespace(client=lambda _: self),
            "os": SimpleNamespace(environ=variables),
            "time": SimpleNamespace(
                time=lambda: self.now,
                strftime=time.strftime,
                strptime=time.strptime,
                gmtime=time.gmtime,
            ),
        }

        def imported(name, *arguments):
            return replaced.get(name) or __import__(name, *arguments)

        own = {"__builtins__": vars(builtins) | {"__import__": imported, "print": lambda *_: None}}
        exec(CODE, own)  # noqa: S102 - the project's own
        return own["handler"]

    def create(self, name, price=1.0, lease=2 * HOUR, busy=0, **more):
        """Create an endpoint that cannot be deleted for `busy` seconds."""
        self.schedules[name] = (self.now + lease, "ENABLED")
        self.endpoints[name] = {
            "created": self.now,
            "busy": self.now + busy,
            "price": price,
            "instances": 1,
            "tags": {"easel": "main", "easel:usd-per-hour": str(price)},
            **more,
        }

    def create_pool(self, name, kind, lease):
        """Create an endpoint of several types whose instance is of one kind, as is seen later."""
        self.create(name, PRICES[kind], lease=lease, busy=7 * MINUTE, pool=kind)
        self.endpoints[name]["tags"]["easel:usd-per-hour"] = str(max(PRICES.values()))

    def start_job(self, name="easel-main-batch-0123456789ab-1", wait=0, price="dear"):
        """Start a batch job whose spot instance comes after `wait` seconds."""
        self.jobs[name] = {
            "created": self.now,
            "begin": self.now + wait,
            "end": None,
            "type": price,
            "status": "InProgress",
        }

    def end_job(self, name="easel-main-batch-0123456789ab-1", seconds=0, status="Completed"):
        """Let a job end in some seconds."""
        self.jobs[name] |= {"end": self.now + seconds, "status": status}

    def pass_time(self, seconds):
        """Let time pass, and count what it really costs."""
        self.spent += self.per_hour * seconds / HOUR
        for job in self.jobs.values():
            end = min(self.now + seconds, job["end"] or self.now + seconds)
            running = max(end - max(job["begin"], self.now), 0)
            self.spent += PRICES[job["type"]] * SPOT * running / HOUR
        before = datetime.fromtimestamp(self.now, UTC).month
        self.now += seconds
        if datetime.fromtimestamp(self.now, UTC).month != before:
            self.spent = 0.0

    @property
    def per_hour(self):
        return sum(each["price"] * each["instances"] for each in self.endpoints.values())

    @property
    def is_reached(self):
        return (self.ledger or {}).get("state") == "reached"

    @property
    def ledger(self):
        key = f"spend/{datetime.fromtimestamp(self.now, UTC):%Y-%m}.json"
        return json.loads(self.objects[key]) if key in self.objects else None

    @property
    def jobs_per_hour(self):
        """What the jobs that run cost at most."""
        return sum(
            PRICES[job["type"]]
            for job in self.jobs.values()
            if job["end"] is None or job["end"] > self.now
        )

    # What the guard calls

    def get_paginator(self, operation):
        if operation == "list_endpoints":
            listed = [{"EndpointName": n, "EndpointArn": n} for n in list(self.endpoints)]
            return SimpleNamespace(paginate=lambda **_: [{"Endpoints": listed}])

        if operation == "list_training_jobs":
            return SimpleNamespace(paginate=self._list_jobs)

        def listed_objects(Bucket, Prefix, StartAfter):
            keys = sorted(k for k in self.objects if k.startswith(Prefix) and k > StartAfter)
            return [{"Contents": [{"Key": key} for key in keys]}, {}]

        return SimpleNamespace(paginate=listed_objects)

    def _list_jobs(self, NameContains, CreationTimeAfter):
        names = [name for name in self.jobs if NameContains in name]
        names = [name for name in names if self.jobs[name]["created"] >= CreationTimeAfter]
        return [{"TrainingJobSummaries": [{"TrainingJobName": name} for name in names]}]

    def _status(self, name):
        job = self.jobs[name]
        if job["end"] is not None and job["end"] <= self.now:
            return job["status"]
        return "InProgress" if job["end"] is None else "Stopping"

    def describe_training_job(self, TrainingJobName):
        if "describe" in self.refused:
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, "x")
        job, described = self.jobs[TrainingJobName], {}
        if job["begin"] <= self.now:
            described["TrainingStartTime"] = datetime.fromtimestamp(job["begin"], UTC)
        if self._status(TrainingJobName) in ("Completed", "Stopped"):
            described["TrainingEndTime"] = datetime.fromtimestamp(job["end"], UTC)
            described["BillableTimeInSeconds"] = max(job["end"] - job["begin"], 0) * SPOT
        resources = {"InstanceType": job["type"], "InstanceCount": 1}
        return {**described, "ResourceConfig": resources}

    def stop_training_job(self, TrainingJobName):
        self.stopped.append(TrainingJobName)
        if self._status(TrainingJobName) != "InProgress":
            raise ClientError({"Error": {"Code": "ValidationException"}}, "x")
        self.end_job(TrainingJobName, 2 * MINUTE, "Stopped")

    def list_tags(self, ResourceArn):
        tags = self._existing(ResourceArn)["tags"]
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def describe_endpoint(self, EndpointName):
        found = self._existing(EndpointName)
        status = found.get("status") or ("InService" if self.now >= found["busy"] else "Creating")
        return {
            "EndpointName": EndpointName,
            "EndpointStatus": status,
            "CreationTime": datetime.fromtimestamp(found["created"], UTC),
            "ProductionVariants": found.get("variants") or [self._variant(found)],
            **found.get("described", {}),
            **({"AsyncInferenceConfig": {}} if found.get("asynchronous") else {}),
        }

    def _variant(self, found):
        if "pool" not in found:
            return {f"{key}InstanceCount": found["instances"] for key in ("Current", "Desired")}
        serves = int(self.now >= found["busy"])
        return pooled(serves, 1, **{kind: serves * (found["pool"] == kind) for kind in PRICES})

    def _existing(self, name):
        if name not in self.endpoints:
            raise ClientError({"Error": {"Code": "ValidationException", "Message": ""}}, "x")
        return self.endpoints[name]

    def delete_endpoint(self, EndpointName):
        if self.now < self._existing(EndpointName)["busy"]:
            raise ClientError({"Error": {"Code": "ValidationException", "Message": ""}}, "x")
        del self.endpoints[EndpointName]

    def get_schedule(self, GroupName, Name):
        assert GroupName == "easel-main"
        if Name not in self.schedules:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "GetSchedule")
        end, state = self.schedules[Name]
        moment = datetime.fromtimestamp(end, UTC)
        return {
            "Description": json.dumps({"hours": self.hours.get(Name, 2.0)}),
            "ScheduleExpression": f"at({moment:%Y-%m-%dT%H:%M:%S})",
            "State": state,
        }

    def get_object(self, Bucket, Key):
        if "get" in self.refused:
            raise ClientError({"Error": {"Code": "SlowDown"}}, "GetObject")
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        body = self.objects[Key]
        return {"Body": io.BytesIO(body), "ETag": str(hash(body))}

    def put_object(self, Bucket, Key, Body, IfMatch=None, IfNoneMatch=None):
        current = self.objects.get(Key)
        held = current is None if IfNoneMatch else str(hash(current)) == IfMatch
        if not held or "put" in self.refused:
            raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")
        self.objects[Key] = Body
        return {}

    def publish(self, TopicArn, Subject, Message):
        if "mail" in self.refused:
            raise ClientError({"Error": {"Code": "Throttled"}}, "Publish")
        self.mails.append(Message)
        return {}


def test_an_endpoint_whose_lease_is_over_or_gone_is_deleted_and_no_other():
    account = Account()
    account.create("easel-main-over", lease=HOUR)
    account.create("easel-main-not-yet", lease=3 * HOUR)
    account.create("easel-main-never", lease=HOUR)
    account.schedules["easel-main-never"] = (account.now, "DISABLED")
    account.hours["easel-main-never"] = None
    account.create("easel-main-without", lease=3 * HOUR)
    del account.schedules["easel-main-without"]
    account.create("easel-main-old", lease=HOUR, tags={"easel": "main"})
    account.create("easel-main-queue", lease=HOUR, asynchronous=True)
    account.create("easel-main-somebodys", lease=HOUR, tags={"easel:usd-per-hour": "1"})
    account.create("easel-mainly-other", lease=HOUR)
    account.pass_time(2 * HOUR)
    account.run()
    assert sorted(account.endpoints) == [
        "easel-main-never",
        "easel-main-not-yet",
        "easel-main-old",
        "easel-main-queue",
        "easel-main-somebodys",
        "easel-mainly-other",
    ]


def test_what_sagemaker_refuses_to_delete_is_deleted_by_a_later_run():
    account = Account()
    account.create("easel-main-sd", lease=HOUR, busy=2 * HOUR)
    account.pass_time(HOUR)
    account.run()
    assert list(account.endpoints) == ["easel-main-sd"]
    account.pass_time(HOUR)
    account.run()
    assert account.endpoints == {}


def test_the_spending_is_counted_by_the_hour_and_each_picture_a_little():
    account = Account()
    account.create("easel-main-sd", price=1.5, lease=9 * HOUR)
    account.create("easel-main-sdxl", price=2.0, asynchronous=True, instances=0)
    key = "usage/records/2026-11/29T220000.123/me/-/sd/{}/900/375000/00ffee00ffee"
    for kind in ("realtime", "failed", "batch"):
        account.objects[key.format(kind)] = b""
    for _ in range(13):
        account.run()
        account.pass_time(5 * MINUTE)
    ledger = account.ledger
    assert ledger["instances_usd"] == pytest.approx(1.5)
    # What their GPUs cost is in the hours of endpoints and jobs.
    assert ledger["pictures_usd"] == pytest.approx(0.003)
    assert ledger["usd"] == pytest.approx(ledger["instances_usd"] + ledger["pictures_usd"])
    assert ledger["endpoints"]["easel-main-sd"] == {
        "usd": pytest.approx(1.5), "usd_per_hour": 1.5, "instances": 1
    }  # fmt: skip
    assert ledger["endpoints"]["easel-main-sdxl"]["usd"] == 0
    assert (ledger["cap_usd"], ledger["state"], ledger["mailed"]) == (None, "under", [])


@pytest.mark.parametrize(
    ("variants", "number", "usd"),
    [
        # The type that runs, and not the dearest of the pool.
        ([pooled(1, 1, dear=0, cheap=1)], 1, 0.5),
        ([pooled(3, 1, dear=1, cheap=2)], 3, 3.0),
        # One whose type is not reported yet, or that has no price, may be the dearest.
        ([pooled(0, 1, dear=0, cheap=0)], 1, 2.0),
        ([pooled(1, 2, dear=0, cheap=1)], 2, 2.5),
        ([pooled(1, 1, unknown=1)], 1, 2.0),
        ([{"InstancePools": [{"InstanceType": "cheap"}]}], 1, 2.0),
        ([pooled(1, 1, dear=1, cheap=1)], 2, 2.5),
        ([pooled(1, 1, cheap=1), {"CurrentInstanceCount": 1}], 2, 2.5),
        ([pooled(0, 0, dear=0, cheap=0)], 0, 0.0),
        ([{}], 1, 2.0),
    ],
)
def test_an_instance_counts_at_the_price_of_its_own_type(variants, number, usd):
    account = Account()
    account.create("easel-main-sd", price=2.0, lease=9 * HOUR, variants=variants)
    account.run()
    account.pass_time(HOUR)
    account.run()
    assert account.ledger["endpoints"]["easel-main-sd"] == {
        "usd": pytest.approx(usd), "usd_per_hour": usd, "instances": number
    }  # fmt: skip


def test_both_fleets_of_an_update_count():
    account = Account()
    second = {"PendingDeploymentSummary": {"ProductionVariants": [pooled(0, 1, cheap=1)]}}
    variants = [pooled(1, 1, dear=1)]
    account.create("easel-main-sd", lease=9 * HOUR, variants=variants, described=second)
    account.run()
    assert account.ledger["endpoints"]["easel-main-sd"]["usd_per_hour"] == 2.5


def test_a_type_that_was_replaced_since_the_last_run_counts_until_this_one():
    account = Account()
    account.create("easel-main-sd", lease=9 * HOUR, variants=[pooled(1, 1, dear=1)])
    account.run()
    account.endpoints["easel-main-sd"]["variants"] = [pooled(1, 1, cheap=1)]
    account.pass_time(HOUR)
    account.run()
    assert account.ledger["usd"] == pytest.approx(2.0)


def test_a_spot_job_counts_in_full_while_it_runs_and_as_it_is_billed_afterwards():
    account = Account()
    account.start_job(wait=30 * MINUTE)
    account.run()
    assert (account.ledger["usd"], account.ledger["state"]) == (0, "under")
    account.pass_time(90 * MINUTE)
    account.run()
    assert account.ledger["jobs"] == {
        "easel-main-batch-0123456789ab-1": {"usd": pytest.approx(2.0), "runs": True}
    }
    assert account.ledger["usd"] == account.ledger["instances_usd"] == pytest.approx(2.0)
    account.pass_time(30 * MINUTE)
    account.end_job()
    account.pass_time(HOUR)
    for _ in range(2):
        account.run()
        account.pass_time(5 * MINUTE)
    assert account.ledger["jobs"] == {
        "easel-main-batch-0123456789ab-1": {"usd": pytest.approx(1.5 * 2.0 * SPOT), "runs": False}
    }
    assert account.ledger["usd"] == pytest.approx(account.spent)
    assert account.stopped == []


def test_a_job_that_begins_and_ends_between_two_runs_is_counted():
    account = Account()
    account.run()
    account.start_job()
    account.pass_time(2 * MINUTE)
    account.end_job()
    account.pass_time(2 * MINUTE)
    account.run()
    assert account.ledger["usd"] == pytest.approx(account.spent) != 0


def test_a_job_that_cannot_be_described_counts_as_before():
    account = Account()
    account.start_job()
    account.pass_time(HOUR)
    account.run()
    account.refused = {"describe"}
    account.end_job()
    account.run()
    assert account.ledger["usd"] == pytest.approx(2.0)


def test_a_spot_job_of_an_earlier_month_counts_from_the_first_on():
    account = Account()
    account.start_job(price="cheap")
    account.pass_time(27 * HOUR)
    account.run()
    assert account.ledger["month"] == "2026-12"
    assert account.ledger["usd"] == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["batch", "compile"])
def test_at_the_cap_jobs_are_stopped_and_then_count_as_they_are_billed(kind):
    account, name = Account(cap=3.0), f"easel-main-{kind}-0123456789ab-1"
    account.start_job(name)
    while not account.stopped:
        account.run()
        account.pass_time(5 * MINUTE)
    assert account.stopped == [name]
    assert account.spent <= 3.0 + 2.0
    account.run()
    account.run()
    assert account.jobs_per_hour == 0
    assert account.ledger["usd"] == pytest.approx(account.spent)
    assert account.stopped == [name]


def test_a_record_that_arrives_late_is_counted_and_none_twice():
    account = Account()
    key = "usage/records/2026-11/29T{}.000/me/-/sd/realtime/900/1/00ffee00ffee"
    account.objects[key.format("220100")] = b""
    account.pass_time(10 * MINUTE)
    account.run()
    account.objects[key.format("220030")] = b""
    for _ in range(8):
        account.pass_time(5 * MINUTE)
        account.run()
    assert account.ledger["pictures_usd"] == pytest.approx(0.002)


def test_the_cap_mails_at_80_and_at_100_percent_and_deletes_everything():
    account = Account(cap=2.0)
    account.create("easel-main-sd", lease=99 * HOUR)
    account.create("easel-main-sdxl", asynchronous=True)
    account.schedules["easel-main-sd"] = (account.now, "DISABLED")
    mails = []
    while account.endpoints:
        account.run()
        mails.append((round(account.spent, 2), len(account.mails)))
        account.pass_time(5 * MINUTE)
    assert (1.5, 0) in mails
    assert (1.67, 1) in mails
    assert account.mails == [
        "easel-main: 80 % of the monthly cap of 2.00 USD is spent.",
        "easel-main: 100 % of the monthly cap of 2.00 USD is spent.",
    ]
    assert account.ledger["state"] == "reached"
    # Whoever starts it again over the cap does so in vain.
    account.create("easel-main-sd", lease=99 * HOUR)
    account.run()
    assert account.endpoints == {}
    account.variables["CAP"] = "9"
    account.create("easel-main-sd", lease=99 * HOUR)
    account.run()
    assert (account.ledger["state"], account.ledger["mailed"]) == ("under", [])
    assert list(account.endpoints) == ["easel-main-sd"]


def test_a_mail_that_cannot_be_sent_is_sent_later_and_holds_nothing_up():
    account = Account(cap=1.0)
    account.create("easel-main-sd", lease=99 * HOUR)
    account.refused = {"mail"}
    account.pass_time(2 * HOUR)
    account.run()
    assert (account.endpoints, account.mails, account.ledger["mailed"]) == ({}, [], [])
    account.refused = set()
    account.run()
    account.run()
    assert len(account.mails) == 2


def test_an_endpoint_that_was_woken_while_its_lease_was_switched_off_is_deleted():
    account = Account()
    account.create("easel-main-sd")
    account.schedules["easel-main-sd"] = (account.now + HOUR, "DISABLED")
    account.run()
    assert account.endpoints == {}


def test_a_ledger_that_cannot_be_read_is_no_new_month():
    account = Account(cap=20.0)
    account.create("easel-main-sdxl", asynchronous=True)
    account.run()
    before = dict(account.objects)
    account.refused = {"get"}
    account.pass_time(5 * MINUTE)
    with pytest.raises(RuntimeError):
        account.run()
    assert (set(account.endpoints), account.mails) == ({"easel-main-sdxl"}, [])
    assert account.objects == before
    account.refused = set()
    account.run()
    assert account.ledger["usd"] == pytest.approx(5 / 60)


def test_the_first_run_of_all_knows_nothing_of_what_came_and_went_before():
    account = Account(cap=20.0)
    account.create("easel-main-sdxl", asynchronous=True)
    account.create("easel-main-sd", lease=99 * HOUR)
    account.pass_time(HOUR)
    account.run()
    assert account.ledger["usd"] == pytest.approx(1.0)


def test_a_new_month_begins_at_zero():
    account = Account(cap=3.0)
    account.create("easel-main-sd", price=1.0, lease=99 * HOUR)
    for _ in range(30):
        account.run()
        account.pass_time(HOUR)
    account.run()
    assert account.ledger["month"] == "2026-12"


def test_a_second_run_at_the_same_time_counts_nothing_twice():
    account = Account()
    account.create("easel-main-sd", lease=99 * HOUR)
    account.pass_time(HOUR)
    account.run()
    account.refused = {"put"}
    account.pass_time(HOUR)
    account.run()
    account.refused = set()
    account.run()
    assert account.ledger["usd"] == pytest.approx(2.0)


# Each step of a history has a name and a number.


def _create(account, name, number):
    # Over the cap, the scripts and the gateway refuse it.
    if name not in account.endpoints and not account.is_reached:
        lease, price = number * HOUR / 2, 0.5 * number
        account.create(name, price, lease=lease, busy=MINUTE)


def _create_pool(account, name, number):
    if name not in account.endpoints and not account.is_reached:
        account.create_pool(name, ["cheap", "dear"][number % 2], lease=number * HOUR / 2)


def _use(account, name, _):
    if name in account.endpoints and account.schedules[name][0] > account.now:
        account.schedules[name] = (account.now + HOUR, "ENABLED")


def _stop(account, name, _):
    account.endpoints.pop(name, None)


def _start_job(account, name, number):
    if name not in account.jobs and not account.is_reached:
        account.start_job(name, wait=number * MINUTE)


def _end_job(account, name, _):
    if name in account.jobs and account.jobs[name]["end"] is None:
        account.end_job(name)


def _time(account, _, number):
    for _ in range(2 * number):
        account.pass_time(5 * MINUTE)
        account.run()


def _jump(account, _, number):
    """Lose runs, or let a clock jump."""
    account.pass_time(6 * number * MINUTE)
    account.run()


def _failing(*operations):
    """Let an operation of AWS fail in one run."""

    def run(account, _, number):
        account.refused = {operations[number % len(operations)]}
        account.run()
        account.refused = set()

    return run


NAMES = ["easel-main-a", "easel-main-b"]
JOBS = ["easel-main-batch-0123456789ab-1", "easel-main-compile-0123456789ab-2"]
OF_ENDPOINTS = (_create, _create_pool, _use, _stop, _time, _jump, _failing("put", "mail"))
OF_JOBS = (_start_job, _end_job, _failing("describe"))
NUMBERS = range(1, 7)
# One choice for a step: to choose cost more than the steps themselves.
STEPS = st.sampled_from([*product(OF_ENDPOINTS, NAMES, NUMBERS), *product(OF_JOBS, JOBS, NUMBERS)])


@settings(max_examples=EXAMPLES)
@given(st.sampled_from([0.0, 1.0, 2.5]), st.lists(STEPS, min_size=3, max_size=12))
def test_no_history_outlives_a_lease_or_spends_more_than_the_cap_and_an_hour(cap, history):
    account = Account(cap)
    most = 0.0
    for step, name, number in history:
        step(account, name, number)
        most = max(most, account.per_hour + account.jobs_per_hour)
        # What is counted is never less than what is spent, apart from what a run has not seen yet.
        assert not cap or account.spent <= cap + most + 0.01, account.ledger
        late = [n for n in account.endpoints if account.schedules[n][0] + 5 * MINUTE < account.now]
        # Only what SageMaker refused to delete.
        assert all(account.endpoints[n]["busy"] + 5 * MINUTE > account.now for n in late)


def test_the_template_has_the_guards_code_without_its_comments():
    text = template("us-east-1")
    block = text.partition("ZipFile: |\n")[2].partition("      Tags:")[0]
    code = "\n".join(line[10:] for line in block.splitlines())
    assert '"""' not in code
    assert not [line for line in code.splitlines() if line.lstrip().startswith("#")]
    own = GUARD.read_text("utf-8").partition('"""\n\n')[2]
    # The same code, with less indentation.
    assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(own))
