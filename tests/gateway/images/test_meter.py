"""What pictures cost: through the whole gateway, and over every history of runs and crashes."""

import io
import json
from collections import Counter
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from chalicelib.auth.budget import MICRO, Account, Budgets
from chalicelib.auth.quota import Payment
from chalicelib.aws.deadline import Deadline
from chalicelib.aws.s3 import Store
from chalicelib.calendar_month import month_of
from chalicelib.errors import GatewayError
from chalicelib.generation import GenerationRequest
from chalicelib.images.meter import Meter
from chalicelib.images.service import Call, ImageService
from chalicelib.settings import Model, Queue, Settings
from chalicelib.telemetry import LogRecord
from chalicelib.usage_records import Kind, UsageRecord
from chalicelib.web.principal import AuthMethod, Principal
from tests.gateway.doubles import (
    KEY,
    OTHER_KEY,
    Breaks,
    Bucket,
    Crash,
    GuardedClient,
    Provided,
    Runs,
    endpoint_response,
    error_of,
    guarded,
    key,
    refusal,
)

PATH = "/inference/a%20cat?seed=1"
# A tenth of a cent for a second.
PRICE = 3.6
INVALID = refusal(
    "ModelError",
    OriginalStatusCode=400,
    OriginalMessage=json.dumps({"error": {"code": "invalid_request", "message": "steps: no"}}),
)


def records(bucket):
    """Return the records of all pictures, in the order of time."""
    start = "usage/records/"
    keys = sorted(name for name in bucket.objects if name.startswith(start))
    return [UsageRecord.from_key(name.removeprefix("usage/")) for name in keys]


# --- Through the gateway --------------------------------------------------------------------------


@pytest.fixture
def client(monkeypatch):
    keys = (key(usd_per_month=0.05), key("bob", OTHER_KEY))
    return GuardedClient(monkeypatch, guarded(keys=keys), usd_per_hour=PRICE)


def test_a_picture_says_what_it_costs_and_leaves_one_record(client):
    response = client.get(PATH, x_api_key=OTHER_KEY)

    (record,) = records(client.bucket)
    assert float(response.headers["X-Cost-USD"]) == pytest.approx(record.micro_usd / MICRO)
    assert (record.key, record.link, record.model, record.kind) == (
        "bob", None, "sd", Kind.REALTIME,
    )  # fmt: skip
    assert set(client.bucket.objects) == {f"usage/{record.to_key()}"}


def test_a_picture_of_a_link_is_recorded_for_the_link_and_its_key(client):
    token = client.link(pictures=2)
    client.get(f"{PATH}&link={token}")

    (record,) = records(client.bucket)
    assert record.key == "ada"
    assert f"links/{record.link}.json" in client.bucket.objects


def test_a_queued_picture_costs_the_seconds_of_its_model_once(client):
    headers = {"x_api_key": OTHER_KEY, "prefer": "respond-async"}
    response = client.get(f"{PATH}&model=slow", **headers)
    again = client.get(f"{response.headers['Location']}/image", **headers)
    visitor = client.get(f"{PATH}&model=slow", **headers)

    costs = [each.headers["X-Cost-USD"] for each in (response, again, visitor)]
    assert costs == ["0.002000", "0.002000", "0.000000"]
    (record,) = records(client.bucket)
    assert (record.kind, record.gpu_milliseconds) == (Kind.ASYNCHRONOUS, 2_000)
    assert record.micro_usd == 2_000


def test_the_other_apis_report_the_cost_of_all_their_pictures(client):
    bodies = {
        "/v1/images/generations": {"prompt": "a cat", "n": 2},
        "/sdapi/v1/txt2img": {"prompt": "a cat", "batch_size": 2},
    }
    for path, body in bodies.items():
        response = client.post(path, body, x_api_key=OTHER_KEY)
        two = records(client.bucket)[-2:]

        cost = float(response.headers["X-Cost-USD"])
        assert cost == pytest.approx(sum(one.micro_usd for one in two) / MICRO, abs=2e-6)


def test_a_stored_picture_costs_nothing(monkeypatch):
    place = ("bucket", "pictures/sd/")
    client = GuardedClient(monkeypatch, guarded(), usd_per_hour=PRICE, pictures=place)
    costs = [client.get(PATH, x_api_key=KEY).headers["X-Cost-USD"] for _ in range(2)]

    assert float(costs[0]) == pytest.approx(records(client.bucket)[0].micro_usd / MICRO)
    assert costs[1] == "0.000000"
    assert (client.generated, len(records(client.bucket))) == (1, 1)
    dry_run = json.loads(client.get(f"{PATH}&dry_run=1", x_api_key=KEY).body)
    assert (dry_run["usd"], dry_run["pictures"][0]["exists"]) == (0, True)


def test_a_model_without_a_price_has_no_cost(monkeypatch):
    client = GuardedClient(monkeypatch, guarded())
    response = client.get(PATH, x_api_key=KEY)

    assert "X-Cost-USD" not in response.headers
    assert client.bucket.objects == {}


def test_a_picture_that_never_reached_a_gpu_costs_nothing(client):
    client.runtime.invoke_endpoint = lambda **_: _raise(refusal("ThrottlingException"))
    response = client.get(PATH, x_api_key=KEY)

    assert (response.status_code, response.headers["X-Cost-USD"]) == (503, "0.000000")
    assert records(client.bucket) == []
    assert account(client.bucket, "ada", datetime.now(UTC).timestamp()) == Account()


def test_a_picture_that_failed_costs_its_time_and_is_no_picture(client):
    client.runtime.invoke_endpoint = lambda **_: _raise(ReadTimeoutError(endpoint_url="u"))
    assert client.get(PATH, x_api_key=KEY).status_code == 504

    (record,) = records(client.bucket)
    assert (record.kind, record.pictures) == (Kind.FAILED, 0)


def test_a_budget_that_is_used_up_refuses_in_every_dialect_before_any_run(client):
    spent = {"spent": 50_000, "open": {}}
    name = f"usage/budgets/{datetime.now(UTC):%Y-%m}/ada.json"
    client.bucket.objects[name] = json.dumps(spent).encode()
    before = dict(client.bucket.objects)

    own = client.get(PATH, x_api_key=KEY)
    queued = client.post("/jobs", {"prompt": "a cat", "model": "slow"}, x_api_key=KEY)
    theirs = client.post("/v1/images/generations", {"prompt": "a cat"}, x_api_key=KEY)
    web_ui = client.post("/sdapi/v1/txt2img", {"prompt": "a cat"}, x_api_key=KEY)
    link = client.get(f"{PATH}&link={client.link(pictures=5)}")

    responses = (own, queued, theirs, web_ui, link)
    assert {each.status_code for each in responses} == {402}
    for each in responses:
        assert 0 < int(each.headers["Retry-After"]) <= 31 * 86_400
        assert each.headers["x-should-retry"] == "false"
    assert error_of(own)["code"] == error_of(queued)["code"] == "budget_used"
    assert "spent 0.05 of the 0.05 USD" in error_of(own)["message"]
    assert error_of(theirs)["type"] == "insufficient_quota"
    assert json.loads(web_ui.body)["error"] == "budget_used"
    assert (client.generated, client.queued) == (0, 0)
    # The link was charged, and got its picture back.
    changed = dict(client.bucket.objects.items() - before.items())
    assert list(changed.values()) == [b"{}"]
    assert client.get(PATH, x_api_key=OTHER_KEY).status_code == 200


def test_a_picture_is_not_lost_where_its_record_cannot_be_written(client, log):
    write = client.bucket.put_object

    def refusing(Key, **arguments):
        if Key.startswith("usage/records/"):
            raise refusal("SlowDown")
        return write(Key=Key, **arguments)

    client.bucket.put_object = refusing
    response = client.get(PATH, x_api_key=OTHER_KEY)

    assert (response.status_code, response.headers["X-Seed"]) == (200, "1")
    assert any('"usage not recorded"' in line for line in log())


def test_a_price_grows_with_the_steps_and_the_area():
    model = Model(
        "sd", "easel-sd", seconds=2, usd_per_hour=PRICE,
        defaults={"steps": 20, "width": 512, "height": 512},
    )  # fmt: skip
    meter = Meter(Settings({"sd": model}, 24, log_prompts=False), Store)
    usual = GenerationRequest(prompt="a cat", seed=1, model="sd")
    larger = GenerationRequest(prompt="a cat", seed=1, model="sd", steps=40, width=1024)

    assert meter.price(usual).usd == pytest.approx(0.002)
    assert meter.price(larger).seconds == pytest.approx(8)


# --- Every history --------------------------------------------------------------------------------

BUFFER = io.BytesIO()
Image.new("RGB", (1, 1)).save(BUFFER, "png")
PICTURE = BUFFER.getvalue()
BUDGET = 0.05  # dollars: two invocations of 24 s, the longest
# Ten minutes before the end of a month.
START = datetime(2026, 11, 30, 23, 50, tzinfo=UTC).timestamp()
# What an invocation comes to: its error, and whether it took time of a GPU.
ENDINGS = {
    "picture": (None, True),
    "busy": (refusal("ThrottlingException"), False),
    "missing": (refusal("ValidationError", "Endpoint not found"), False),
    "invalid": (INVALID, False),
    "failed": (refusal("ModelError", OriginalStatusCode=500), True),
    "too slow": (ReadTimeoutError(endpoint_url="u"), True),
    "cut": (ConnectionClosedError(endpoint_url="u"), True),
}


def _raise(error):
    raise error


def account(bucket, name, moment):
    """Return what a key has spent in the month of a moment."""
    store = Store(Provided(bucket), "bucket", "usage/budgets/")
    return Budgets(store, lambda: moment).account(key(name))


class World:
    """A gateway with two keys, whose invocations end as planned and are counted."""

    def __init__(self):
        self.now = START
        self.breaks = Breaks()
        self.bucket = Bucket(self.breaks)
        self.runs = Runs(self.breaks)
        self.painted = []  # what ran on a GPU: (name of the key, seconds, the month's name)
        self.lost = self.silent = 0
        self.seeds = iter(range(10**6))
        self.keys = {name: key(name, usd_per_month=BUDGET) for name in ("ada", "bob")}
        queue = Queue("easel-slow", "bucket", "jobs/")
        models = {
            "sd": Model("sd", "easel-sd", usd_per_hour=PRICE),
            "slow": Model("slow", None, queue, seconds=30, usd_per_hour=PRICE),
            "kept": Model("kept", "easel-kept", pictures=("bucket", "kept/"), usd_per_hour=PRICE),
        }
        self.settings = Settings(models, 24, log_prompts=False, usage=("bucket", "usage/"))
        self.service = self.lambda_()

    def lambda_(self):
        """Return a fresh Lambda's image service."""
        service = ImageService(self.settings, Provided(self), Provided(self.bucket))
        clock = lambda: self.now  # noqa: E731
        service.meter = Meter(self.settings, service._store, clock, clock)
        return service

    def invoke_endpoint(self, **_):
        return self.breaks.around(self._run)

    def _run(self):
        error, uses_gpu = ENDINGS[self.ending]
        if uses_gpu:
            self.painted.append((self.caller, self.seconds, month_of(self.now)))
            self.now += self.seconds
        return endpoint_response(PICTURE) if error is None else _raise(error)

    def invoke_endpoint_async(self, **asked):
        return self.runs.invoke_endpoint_async(**asked)

    def request(self, caller, model, ending, seconds, crash, advance, seed=None):
        """Have a caller ask for a picture; `crash` breaks a call, counted from 0, and how."""
        self.caller, self.ending, self.seconds = caller, ending, seconds
        self.runs.trouble = "refused" if ending in {"busy", "missing"} else None
        queued, month = len(self.runs.queued), month_of(self.now)
        payment = Payment(Principal(AuthMethod.KEY, self.keys[caller]))
        call = Call(payment, LogRecord(), Deadline(float("inf")), "trace", longest_wait=0)
        call.names_seed = True
        request = GenerationRequest(prompt="a cat", seed=next(self.seeds) if seed is None else seed)
        request = request.complete(model=model)
        if crash is not None:
            at, how = crash
            self.breaks.error = ReadTimeoutError(endpoint_url="u") if how == "silent" else None
            self.breaks.arm(at, after=how == "after")
        broke = False
        try:
            resolved = self.service.resolve(call, request)
            if model == "slow":
                self.service.enqueue(call, resolved)
            else:
                self.service.generate(call, resolved)
        except GatewayError:
            pass
        except Crash:
            broke, self.service = True, self.lambda_()
        # A call to S3 that failed without a crash can lose a record, too.
        if crash is not None and self.breaks.left is None:
            broke = True
        self.lost += broke
        self.silent += broke and crash[1] == "silent"
        self.breaks.left = None
        if len(self.runs.queued) > queued:
            self.painted.append((caller, 30, month))
        self.now += advance

    def check(self):
        """Compare what the keys have spent, and the records, with what ran on a GPU."""
        for name in self.keys:
            for month, moment in (("2026-11", START), ("2026-12", self.now)):
                if month_of(moment) != month:
                    continue
                cost = 1_000 * sum(
                    seconds for who, seconds, when in self.painted if (who, when) == (name, month)
                )
                spent = account(self.bucket, name, moment)
                assert cost <= spent.spent + spent.reserved <= BUDGET * MICRO
        written = Counter((one.key, one.gpu_milliseconds) for one in records(self.bucket))
        painted = Counter((who, 1_000 * seconds) for who, seconds, _ in self.painted)
        # A response that was lost may be that of a run.
        assert (written - painted).total() <= self.silent
        assert (painted - written).total() <= self.lost


CRASHES = st.none() | st.tuples(st.integers(0, 12), st.sampled_from(["before", "after", "silent"]))
REQUESTS = st.tuples(
    st.sampled_from(["ada", "bob"]),
    st.sampled_from(["sd", "kept", "slow"]),
    st.sampled_from(["picture", "picture", *ENDINGS]),
    st.integers(1, 24),
    CRASHES,
    st.sampled_from([0, 0, 1, 300, 700]),
)


@given(st.lists(REQUESTS, min_size=1, max_size=8))
def test_no_budget_is_overdrawn_and_a_lost_lambda_loses_one_record(history):
    world = World()
    for request in history:
        world.request(*request)
    # Nothing that is spent, painted or recorded is ever undone: the end shows every mistake.
    world.check()


def test_a_crash_at_each_call_of_a_picture_loses_at_most_its_own_record():
    for how in ("before", "after", "silent"):
        for model in ("sd", "kept", "slow"):
            for at in range(12):
                world = World()
                world.request("ada", model, "picture", 20, (at, how), 0)
                world.request("ada", model, "picture", 20, None, 0)
                world.check()
