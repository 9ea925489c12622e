"""The guard's code alone, in thousands of histories of an account that is a few dictionaries here.

The same code runs in the stack, on the emulator, in `test_lease_histories.py`.
"""

from __future__ import annotations

import builtins
import io
import json
import time
from calendar import timegm
from datetime import UTC, datetime
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
PRICES = {"ml.cheap": 0.5, "ml.dear": 2.0}
EXAMPLES = 2_000 if ALL else 60
TOPIC = "arn:aws:sns:us-east-1:123456789012:easel-main-spend"


class Account:
    """SageMaker, EventBridge Scheduler, S3 and SNS, as far as the guard uses them."""

    def __init__(self, cap=0.0):
        self.now = float(START)
        self.endpoints, self.schedules, self.objects = {}, {}, {}
        self.mails, self.refused, self.spent = [], set(), 0.0
        self.hours = {}  # of the leases, where they are not two
        variables = {"NAME": "main", "BUCKET": "bucket", "TOPIC": TOPIC, "CAP": cap}
        variables |= {"DEAREST": 2.0, "PICTURE": 0.001, "PRICES": json.dumps(PRICES)}
        self.variables = {key: str(value) for key, value in variables.items()}

    def run(self):
        """Run the guard once."""
        replaced = {
            "boto3": SimpleNamespace(client=lambda _: self),
            "os": SimpleNamespace(environ=self.variables),
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
        own["handler"]({}, None)

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

    def pass_time(self, seconds):
        """Let time pass, and count what it really costs."""
        self.spent += self.per_hour * seconds / HOUR
        before = datetime.fromtimestamp(self.now, UTC).month
        self.now += seconds
        if datetime.fromtimestamp(self.now, UTC).month != before:
            self.spent = 0.0

    @property
    def per_hour(self):
        return sum(each["price"] * each["instances"] for each in self.endpoints.values())

    @property
    def ledger(self):
        key = f"spend/{datetime.fromtimestamp(self.now, UTC):%Y-%m}.json"
        return json.loads(self.objects[key]) if key in self.objects else None

    # What the guard calls

    def get_paginator(self, operation):
        if operation == "list_endpoints":
            listed = [{"EndpointName": n, "EndpointArn": n} for n in list(self.endpoints)]
            return SimpleNamespace(paginate=lambda **_: [{"Endpoints": listed}])

        def listed_objects(Bucket, Prefix, StartAfter):
            keys = sorted(k for k in self.objects if k.startswith(Prefix) and k > StartAfter)
            return [{"Contents": [{"Key": key} for key in keys]}, {}]

        return SimpleNamespace(paginate=listed_objects)

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
            "ProductionVariants": found.get("variants")
            or [
                {
                    "CurrentInstanceCount": found["instances"],
                    "DesiredInstanceCount": found["instances"],
                }
            ],
            **found.get("described", {}),
            **({"AsyncInferenceConfig": {}} if found.get("asynchronous") else {}),
        }

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
    # Only a batch's spot job is not in the hours of an endpoint.
    assert ledger["pictures_usd"] == pytest.approx(0.003 + 0.375)
    assert ledger["usd"] == pytest.approx(ledger["instances_usd"] + ledger["pictures_usd"])
    assert ledger["endpoints"]["easel-main-sd"] == {
        "usd": pytest.approx(1.5), "usd_per_hour": 1.5, "instances": 1
    }  # fmt: skip
    assert ledger["endpoints"]["easel-main-sdxl"]["usd"] == 0
    assert (ledger["cap_usd"], ledger["state"], ledger["mailed"]) == (None, "under", [])


def pooled(current, desired=0, **types):
    pools = [
        {"InstanceType": f"ml.{name}", "CurrentInstanceCount": count}
        for name, count in types.items()
    ]
    counts = {"CurrentInstanceCount": current, "DesiredInstanceCount": desired}
    return {**counts, "InstancePools": pools}


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
        ([{"InstancePools": [{"InstanceType": "ml.cheap"}]}], 1, 2.0),
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


NAMES = st.sampled_from(["easel-main-a", "easel-main-b"])
STEPS = st.one_of(
    st.tuples(st.just("create"), NAMES, st.integers(1, 6)),
    st.tuples(st.just("use"), NAMES, st.just(0)),
    st.tuples(st.just("stop"), NAMES, st.just(0)),
    st.tuples(st.just("time"), NAMES, st.integers(1, 12)),  # runs of the guard
    # Lost runs, or a clock that jumps.
    st.tuples(st.just("jump"), NAMES, st.integers(1, 40)),
    # S3, or SNS, fails for one run.
    st.tuples(st.sampled_from(["put", "mail"]), NAMES, st.just(0)),
)


@settings(max_examples=EXAMPLES)
@given(st.sampled_from([0.0, 1.0, 2.5]), st.lists(STEPS, min_size=3, max_size=12))
def test_no_history_outlives_a_lease_or_spends_more_than_the_cap_and_an_hour(cap, history):
    account = Account(cap)
    most = 0.0
    for kind, name, number in history:
        _take(account, kind, name, number)
        most = max(most, account.per_hour)
        # What is counted is never less than what is spent, apart from what a run has not seen yet.
        assert not cap or account.spent <= cap + most + 0.01, account.ledger
        late = [n for n in account.endpoints if account.schedules[n][0] + 5 * MINUTE < account.now]
        # Only what SageMaker refused to delete.
        assert all(account.endpoints[n]["busy"] + 5 * MINUTE > account.now for n in late)


def _take(account, kind, name, number):
    exists = name in account.endpoints
    match kind:
        # Over the cap, the scripts and the gateway refuse it.
        case "create" if not exists and (account.ledger or {}).get("state") != "reached":
            account.create(name, 0.5 * number, lease=number * HOUR / 2, busy=MINUTE)
        case "use" if exists and account.schedules[name][0] > account.now:
            account.schedules[name] = (account.now + HOUR, "ENABLED")
        case "stop":
            account.endpoints.pop(name, None)
        case "time":
            for _ in range(number):
                account.pass_time(5 * MINUTE)
                account.run()
        case "jump":
            account.pass_time(number * MINUTE)
            account.run()
        case "put" | "mail":
            account.refused = {kind}
            account.run()
            account.refused = set()


def test_the_template_has_the_guards_code_without_its_comments():
    text = template("us-east-1")
    block = text.partition("ZipFile: |\n")[2].partition("      Tags:")[0]
    lines = [line[10:] for line in block.splitlines()]
    own = GUARD.read_text("utf-8").partition('"""\n\n')[2].splitlines()
    assert lines == [line for line in own if line.strip() and not line.lstrip().startswith("#")]
    compile("\n".join(lines), "index.py", "exec")
