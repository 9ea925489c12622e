"""Pictures of real-time models: painted once for a seed, and stored for everybody."""

import io
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from PIL import Image

from chalicelib.auth.quota import Payment
from chalicelib.aws.deadline import Deadline
from chalicelib.aws.s3 import Store
from chalicelib.errors import GatewayError
from chalicelib.generation import GenerationRequest
from chalicelib.images.claims import Claims
from chalicelib.images.jobs import Finished, Job, Jobs
from chalicelib.images.resolved_request import ResolvedRequest, job_id
from chalicelib.images.service import Call, ImageService, _Stored
from chalicelib.images.wait_slots import ConcurrencyLimiter
from chalicelib.settings import Model, Queue, Settings
from chalicelib.telemetry import LogRecord
from tests.conftest import ALL
from tests.gateway.doubles import (
    KEY,
    Breaks,
    Bucket,
    Crash,
    GatewayClient,
    GeneratingClient,
    GuardedClient,
    Provided,
    Runs,
    endpoint_response,
    error_of,
    guarded,
    refusal,
)

PLACE = ("bucket", "pictures/sd/")
CAT = "/inference/a%20cat?seed=1"
CRAWLER = {"User-Agent": "Slackbot-LinkExpanding 1.0"}
GONE = refusal("ValidationError", "Endpoint easel-sd of account 123456789012 not found.")


@pytest.fixture
def bucket():
    return Bucket(Breaks())


@pytest.fixture
def client(monkeypatch, bucket):
    """An open gateway that stores the pictures of `sd`, and not those of `other`."""
    made = GatewayClient(monkeypatch)
    made.offer(
        {"sd": Model("sd", "easel-sd", pictures=PLACE), "other": Model("other", "o")}, bucket
    )
    return made


@pytest.fixture
def guarded_client(monkeypatch):
    return GuardedClient(monkeypatch, guarded(), pictures=PLACE)


def calls_of(bucket, action):
    before = bucket._breaks.calls
    action()
    return bucket._breaks.calls - before


# --- Whoever comes second -------------------------------------------------------------------------


def test_the_second_visitor_gets_the_picture_with_one_call_to_s3(client, bucket):
    first = client.get(CAT)
    second = []

    assert calls_of(bucket, lambda: second.append(client.get(CAT))) == 1
    assert (first.status_code, second[0].status_code) == (200, 200)
    assert first.body == second[0].body
    assert first.headers == second[0].headers
    assert first.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert len(client.asked) == 1


def test_a_new_picture_takes_four_calls_to_s3(client, bucket):
    assert calls_of(bucket, lambda: client.get(CAT)) == 4
    assert sorted(key.split("/")[2] for key in bucket.objects) == ["outputs", "records"]


@pytest.mark.parametrize("path", ["/inference/a%20cat", f"{CAT}&model=other"])
def test_a_random_picture_and_a_model_that_stores_none_make_no_call_to_s3(client, bucket, path):
    assert calls_of(bucket, lambda: [client.get(path), client.get(path)]) == 0
    assert len(client.asked) == 2


def test_whoever_has_the_picture_already_costs_no_call_to_s3(client, bucket):
    tag = client.get(CAT).headers["ETag"]
    again = []

    assert calls_of(bucket, lambda: again.append(client.get(CAT, **{"If-None-Match": tag}))) == 0
    assert again[0].status_code == 304


def test_without_its_endpoint_a_model_still_serves_what_is_stored(client):
    stored = client.get(CAT).body
    client.endpoint.invoke_endpoint = RaisingClient(GONE).invoke_endpoint

    assert client.get(CAT).body == stored
    assert client.get("/inference/a%20cat?seed=2").status_code == 503


class RaisingClient:
    """A runtime client whose endpoint fails."""

    def __init__(self, error):
        self.error = error

    def invoke_endpoint(self, **_):
        raise self.error


OPENAI, WEB_UI = "/v1/images/generations", "/sdapi/v1/txt2img"


@pytest.mark.parametrize(
    ("path", "more", "runs"),
    [
        (OPENAI, {"seed": 1}, 1),
        (OPENAI, {}, 2),
        (OPENAI, {"seed": 1, "n": 2}, 2),
        (WEB_UI, {"seed": 1}, 1),
        (WEB_UI, {"seed": "1"}, 1),
        (WEB_UI, {"seed": -1}, 2),
        (WEB_UI, {"seed": 1, "batch_size": 2}, 2),
    ],
)
def test_the_other_dialects_store_what_names_its_seed(client, path, more, runs):
    for _ in range(2):
        body = json.dumps({"prompt": "a cat", **more}).encode()
        assert client.post(path, body).status_code == 200

    assert len(client.asked) == runs


def test_all_dialects_share_the_pictures(client):
    client.get(CAT)
    client.post(OPENAI, json.dumps({"prompt": "a cat", "seed": 1}).encode())
    client.post(WEB_UI, json.dumps({"prompt": "a cat", "seed": 1}).encode())

    assert len(client.asked) == 1


def test_a_crawler_gets_what_is_stored_and_starts_nothing(client):
    before = client.get(CAT, **CRAWLER)
    client.get(CAT)
    after = client.get(CAT, **CRAWLER)

    assert before.headers["Content-Type"].startswith("text/html")
    assert after.headers["Content-Type"] == "image/png"
    assert len(client.asked) == 1


def test_a_stored_picture_costs_a_link_nothing(guarded_client):
    token = guarded_client.link(pictures=1)
    paths = [f"/inference/a%20cat?seed={seed}&link={token}" for seed in (1, 2)]
    again = [guarded_client.get(paths[0]).status_code for _ in range(9)]

    assert again == [200] * 9
    assert guarded_client.get(paths[1]).status_code == 429
    assert guarded_client.generated == 1


def test_what_a_key_or_a_link_opened_stays_private(guarded_client):
    token = guarded_client.link(pictures=1)
    for _ in range(2):
        for more, headers in (("", {"x_api_key": KEY}), (f"&link={token}", {})):
            response = guarded_client.get(f"{CAT}{more}", **headers)
            assert response.headers["Cache-Control"].startswith("private")
    assert guarded_client.get(CAT).status_code == 401
    assert guarded_client.generated == 1


# --- At the same time -----------------------------------------------------------------------------


class SlowClient(GeneratingClient):
    """A runtime client that generates when it is allowed to."""

    def __init__(self):
        super().__init__(None)
        self.begun, self.released = threading.Event(), threading.Event()

    def invoke_endpoint(self, **arguments):
        self.begun.set()
        assert self.released.wait(20)
        return super().invoke_endpoint(**arguments)


@pytest.fixture
def slow(client, monkeypatch):
    runtime = SlowClient()
    monkeypatch.setattr(client.service, "_runtime", Provided(runtime))
    yield runtime
    runtime.released.set()


def in_thread(action):
    results = []
    thread = threading.Thread(target=lambda: results.append(action()))
    thread.start()
    return thread, results


def test_whoever_comes_meanwhile_waits_for_the_one_run(client, slow):
    first, results = in_thread(lambda: client.get(CAT))
    assert slow.begun.wait(20)
    second, more = in_thread(lambda: client.get(CAT))
    slow.released.set()
    first.join()
    second.join()

    assert results[0].status_code == 200
    assert results[0].body == more[0].body
    assert len(slow.asked) == 1


def test_whoever_cannot_wait_gets_the_job_and_its_picture_later(client, slow):
    first, _ = in_thread(lambda: client.get(CAT))
    assert slow.begun.wait(20)
    receipt = client.get(CAT, Prefer="respond-async")
    slow.released.set()
    first.join()
    job = json.loads(receipt.body)

    assert (receipt.status_code, job["state"]) == (202, "waiting")
    assert client.get(job["image"]).status_code == 200
    assert json.loads(client.get(job["url"]).body)["state"] == "done"
    assert len(slow.asked) == 1


def test_whoever_waits_for_a_run_that_fails_starts_the_next_one(client, monkeypatch):
    begun, failing, runtime = threading.Event(), threading.Event(), GeneratingClient(None)
    generate = runtime.invoke_endpoint

    def fail_once(**arguments):
        runtime.invoke_endpoint = generate
        begun.set()
        assert failing.wait(20)
        raise refusal("ThrottlingException")

    runtime.invoke_endpoint = fail_once
    monkeypatch.setattr(client.service, "_runtime", Provided(runtime))
    jobs = client.service._stored["sd"].jobs
    monkeypatch.setattr(jobs, "_sleep", lambda _: failing.set())
    first, results = in_thread(lambda: client.get(CAT))
    assert begun.wait(20)
    second = client.get(CAT)
    first.join()

    assert results[0].status_code == 503
    assert second.status_code == 200


def test_of_a_crowd_half_of_the_slots_wait_and_the_others_are_told_to_come_back(client, slow):
    slots = ConcurrencyLimiter(Store(Provided(client.service._s3.client()), *PLACE), 50)
    first, _ = in_thread(lambda: client.get(CAT))
    assert slow.begun.wait(20)
    identifier = json.loads(client.get(CAT, Prefer="wait=0").body)["id"]
    for number in slots._slots_of(identifier):
        slots._take_free(f"waiting/{number}")
    response = client.get(CAT)
    slow.released.set()
    first.join()

    assert (response.status_code, error_of(response)["code"]) == (503, "too_many_waiting")


class Serialised(Breaks):
    """Lets one call into the bucket at a time, as S3 does for one key."""

    def __init__(self):
        super().__init__()
        self._lock = threading.Lock()

    def around(self, call):
        with self._lock:
            return super().around(call)


def test_any_number_of_visits_by_many_clients_is_one_run(monkeypatch):
    clients, visits = 50, 200 if ALL else 4
    client = GatewayClient(monkeypatch)
    client.offer({"sd": Model("sd", "easel-sd", pictures=PLACE)}, Bucket(Serialised()))
    together = threading.Barrier(clients)

    def visit_often(_):
        together.wait()
        statuses, bodies = Counter(), set()
        while statuses[200] < visits:
            response = client.get(CAT)
            statuses[response.status_code] += 1
            if response.status_code == 200:
                bodies.add(response.body)
        return statuses, bodies

    with ThreadPoolExecutor(clients) as pool:
        results = list(pool.map(visit_often, range(clients)))

    statuses = sum((each for each, _ in results), Counter())
    assert len(set.union(*(bodies for _, bodies in results))) == 1
    assert statuses[200] == clients * visits
    # Whoever finds no slot to wait in comes back.
    assert statuses.keys() <= {200, 503}
    assert len(client.asked) == 1


# --- What fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        refusal("ThrottlingException"),
        EndpointConnectionError(endpoint_url="u"),
        ReadTimeoutError(endpoint_url="u"),
        refusal("ModelError", OriginalStatusCode=500, OriginalMessage="it broke"),
        GONE,
    ],
    ids=["busy", "unreachable", "timeout", "broken", "gone"],
)
def test_a_run_that_failed_can_be_repeated_at_once(client, error):
    generate = client.endpoint.invoke_endpoint
    client.endpoint.invoke_endpoint = RaisingClient(error).invoke_endpoint
    failed = client.get(CAT)
    client.endpoint.invoke_endpoint = generate

    assert failed.status_code >= 500
    assert client.get(CAT).status_code == 200


def test_a_picture_that_s3_does_not_store_is_returned_nevertheless(client, bucket):
    bucket._breaks.error = refusal("InternalError")
    bucket._breaks.arm(3, after=False)  # the call that would store it
    first = client.get(CAT)
    bucket._breaks.error = None

    assert first.status_code == 200
    assert client.get(CAT).body == first.body
    assert len(client.asked) == 2


def test_a_store_that_does_not_answer_is_a_503_before_any_run(client, bucket):
    bucket._breaks.error = refusal("InternalError")
    bucket._breaks.arm(0, after=False)
    response = client.get(CAT)

    assert (response.status_code, error_of(response)["code"]) == (503, "store_unavailable")
    assert client.asked == []


def test_a_model_with_a_queue_as_well_has_one_claim_for_both(client, bucket, monkeypatch):
    runs = Runs(Breaks())
    queue = Queue("easel-slow", "bucket", "jobs/")
    client.offer({"sd": Model("sd", "easel-sd", queue, pictures=queue.place)}, bucket)
    client.endpoint.invoke_endpoint_async = runs.invoke_endpoint_async
    stored = client.get(CAT).body
    client.endpoint.invoke_endpoint = RaisingClient(GONE).invoke_endpoint
    queued = client.get("/inference/a%20cat?seed=2", Prefer="wait=0")
    again = client.get("/inference/a%20cat?seed=2", Prefer="wait=0")

    assert client.get(CAT).body == stored
    assert (queued.status_code, again.status_code) == (202, 202)
    assert len(runs.queued) == 1


# --- Deletion -------------------------------------------------------------------------------------


def test_a_key_deletes_a_picture_and_what_was_requested(guarded_client):
    guarded_client.get(CAT, x_api_key=KEY)
    deleted = guarded_client.request("DELETE", CAT, x_api_key=KEY)
    again = guarded_client.request("DELETE", CAT, x_api_key=KEY)

    assert (deleted.status_code, deleted.body) == (204, b"")
    assert (again.status_code, error_of(again)["code"]) == (404, "picture_unknown")
    assert guarded_client.bucket.objects == {}
    assert guarded_client.get(CAT, x_api_key=KEY).status_code == 200
    assert guarded_client.generated == 2


def test_a_queued_picture_is_deleted_by_either_address(guarded_client):
    for path in (f"{CAT}&model=slow", "/jobs/{id}"):
        job = json.loads(
            guarded_client.get(f"{CAT}&model=slow", x_api_key=KEY, Prefer="wait=0").body
        )
        (run,) = guarded_client.runtime.runs.queued
        guarded_client.bucket.objects[run["output"].removeprefix("s3://bucket/")] = b"a picture"
        deleted = guarded_client.request("DELETE", path.format(**job), x_api_key=KEY)

        assert deleted.status_code == 204
        assert guarded_client.bucket.objects == {}
        assert guarded_client.get(job["url"], x_api_key=KEY).status_code == 404
        guarded_client.runtime.runs.queued.clear()


def test_a_job_in_progress_is_not_deleted(guarded_client):
    job = json.loads(guarded_client.get(f"{CAT}&model=slow", x_api_key=KEY, Prefer="wait=0").body)
    deleted = guarded_client.request("DELETE", job["url"], x_api_key=KEY)

    assert deleted.status_code == 404
    assert json.loads(guarded_client.get(job["url"], x_api_key=KEY).body)["state"] == "waiting"


@pytest.mark.parametrize("path", [CAT, "/jobs/sd-00000000000000000000000000000000"])
def test_only_a_key_deletes(guarded_client, client, path):
    guarded_client.get(CAT, x_api_key=KEY)
    stored = dict(guarded_client.bucket.objects)
    token = guarded_client.link(pictures=1)
    more = "&" if "?" in path else "?"
    link = guarded_client.request("DELETE", f"{path}{more}link={token}")
    nobody = guarded_client.request("DELETE", path)

    assert (link.status_code, error_of(link)["code"]) == (403, "key_required")
    assert (nobody.status_code, error_of(nobody)["code"]) == (401, "unauthorized")
    assert guarded_client.bucket.objects == stored


def test_an_open_gateway_deletes_nothing(client):
    client.get(CAT)

    assert client.get(CAT, method="DELETE").status_code == 403
    assert client.get(CAT).status_code == 200
    assert len(client.asked) == 1


def test_a_deletion_names_its_seed(guarded_client):
    response = guarded_client.request("DELETE", "/inference/a%20cat", x_api_key=KEY)

    assert (response.status_code, error_of(response)["field"]) == (400, "seed")


def test_the_prompt_of_the_default_address_is_deleted_there(guarded_client):
    path = "/inference/default?prompt=..&seed=1"
    guarded_client.get(path, x_api_key=KEY)

    assert guarded_client.request("DELETE", path, x_api_key=KEY).status_code == 204


@pytest.mark.parametrize("call", range(5))
@pytest.mark.parametrize("after", [False, True])
def test_a_deletion_that_dies_can_be_repeated_and_nobody_waits_for_what_it_left(
    guarded_client, call, after
):
    guarded_client.get(CAT, x_api_key=KEY)
    guarded_client.bucket._breaks.arm(call, after=after)
    try:
        guarded_client.request("DELETE", CAT, x_api_key=KEY)
    except Crash:
        guarded_client.request("DELETE", CAT, x_api_key=KEY)
    guarded_client.bucket._breaks.arm(None, after=False)

    assert guarded_client.bucket.objects == {}
    assert guarded_client.get(CAT, x_api_key=KEY).status_code == 200


# --- Histories ------------------------------------------------------------------------------------

MODEL = Model("sd", "easel-sd", pictures=PLACE, revision="revision")
WISHES = [GenerationRequest(prompt=f"cat {n}", seed=n, model="sd") for n in range(2)]
LONGEST = 29
TROUBLES = [
    None,
    refusal("ThrottlingException"),
    ReadTimeoutError(endpoint_url="u"),
    refusal("ModelError", OriginalStatusCode=500, OriginalMessage="it broke"),
]


def _picture(seed):
    buffer = io.BytesIO()
    Image.new("RGB", (seed + 1, 1)).save(buffer, "png")
    return buffer.getvalue()


PICTURES = [_picture(request.seed) for request in WISHES]


class Painter:
    """A runtime client that counts its runs, of which some are lost."""

    def __init__(self, breaks):
        self.runs, self.trouble = Counter(), None
        self._breaks = breaks

    def invoke_endpoint(self, **asked):
        return self._breaks.around(lambda: self._paint(json.loads(asked["Body"])["seed"]))

    def _paint(self, seed):
        trouble, self.trouble = self.trouble, None
        if trouble is not None:
            raise trouble
        self.runs[seed] += 1
        return endpoint_response(PICTURES[seed])


class World:
    """A bucket, an endpoint, and a clock of their own."""

    def __init__(self):
        self.time = 1_000_000.0
        self.breaks = Breaks()
        self.bucket = Bucket(self.breaks)
        self.painter = Painter(self.breaks)
        store = Store(Provided(self.bucket), *PLACE)
        jobs = Jobs(store, Claims(store, LONGEST, self.now), now=self.now, sleep=self.sleep)
        limiter = ConcurrencyLimiter(store, 8, self.now)
        settings_ = Settings({"sd": MODEL}, 24, log_prompts=False)
        self.service = ImageService(settings_, Provided(self.painter), Provided(self.bucket))
        self.service._stored = {"sd": _Stored(jobs, limiter)}

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds

    def visit(self, request, seconds=0.0):
        """Request a picture as a caller that can wait so long for another one's run."""
        call = Call(Payment(), LogRecord(), Deadline(60 + time.monotonic()), "trace", seconds)
        call.names_seed = True
        identifier = job_id(request, MODEL.revision)
        resolved = ResolvedRequest(request, MODEL, identifier, identifier)
        return self.service.generate(call, resolved)

    def is_stored(self, request):
        digest = job_id(request, MODEL.revision).rpartition("-")[2]
        return f"pictures/sd/outputs/{digest}/picture.png" in self.bucket.objects


@pytest.mark.parametrize("after", [False, True])
def test_whoever_waits_for_a_lambda_that_is_lost_does_its_run_when_the_claim_ends(after):
    world = World()
    begun = world.time
    world.breaks.arm(3, after=after)  # in the run
    with pytest.raises(Crash):
        world.visit(WISHES[0])
    outcome = world.visit(WISHES[0], seconds=60)

    assert outcome.body == PICTURES[0]
    assert LONGEST < world.time - begun < LONGEST + 10
    assert world.painter.runs[0] == 1 + after


class Histories(RuleBasedStateMachine):
    """Visitors, of which some come in the middle of others, and Lambdas that are lost anywhere."""

    def __init__(self):
        super().__init__()
        self.world = World()
        self.lost = Counter()

    def visit(self, request):
        try:
            outcome = self.world.visit(request)
        except (Crash, GatewayError):
            outcome = None
        if isinstance(outcome, Finished):
            assert outcome.body == PICTURES[request.seed]
        else:
            assert outcome is None or isinstance(outcome, Job)
        return outcome

    def count_lost(self):
        """Count the runs so far of pictures that are not stored: no Lambda is left to do it."""
        for request in WISHES:
            if not self.world.is_stored(request):
                self.lost[request.seed] = self.world.painter.runs[request.seed]

    @rule(request=st.sampled_from(WISHES))
    def a_visitor_comes(self, request):
        was_stored = self.world.is_stored(request)
        outcome = self.visit(request)

        assert outcome is not None
        assert isinstance(outcome, Finished) or not was_stored

    @rule(
        request=st.sampled_from(WISHES),
        call=st.integers(0, 6),
        after=st.booleans(),
        trouble=st.sampled_from(TROUBLES),
        error=st.sampled_from([None, refusal("InternalError")]),
    )
    def a_lambda_is_lost_or_aws_fails(self, request, call, after, trouble, error):
        self.world.painter.trouble, self.world.breaks.error = trouble, error
        self.world.breaks.arm(call, after=after)
        self.visit(request)
        self.world.breaks.arm(None, after=False)
        self.world.painter.trouble = self.world.breaks.error = None
        self.count_lost()

    @rule(request=st.sampled_from(WISHES), other=st.sampled_from(WISHES), call=st.integers(0, 5))
    def another_visitor_comes_in_the_middle(self, request, other, call):
        self.world.breaks.interrupt(call, lambda: self.visit(other))
        self.visit(request)
        self.world.breaks.left = self.world.breaks.meanwhile = None

    @rule(seconds=st.sampled_from([1, 10, LONGEST + 1]))
    def time_passes(self, seconds):
        self.world.time += seconds

    @invariant()
    def no_picture_is_generated_twice_but_where_its_run_was_lost(self):
        for request in WISHES:
            assert self.world.painter.runs[request.seed] <= 1 + self.lost[request.seed]

    @invariant()
    def every_run_that_was_not_lost_is_stored(self):
        for request in WISHES:
            runs = self.world.painter.runs[request.seed]
            assert self.world.is_stored(request) or runs == self.lost[request.seed]

    def teardown(self):
        """Whatever has happened, one more visit after the longest run leads to a picture."""
        self.world.time += LONGEST + 1
        for request in WISHES:
            assert isinstance(self.visit(request), Finished)


TestHistories = Histories.TestCase
TestHistories.settings = settings(stateful_step_count=20)
