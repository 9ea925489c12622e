"""Jobs, over every history that hypothesis can think of."""

import io
import itertools
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from PIL import Image

from chalicelib.auth.quota import Payment
from chalicelib.aws.deadline import Deadline
from chalicelib.aws.s3 import Store
from chalicelib.aws.sagemaker import AsyncEndpoint, QueueTimeouts, failure_of
from chalicelib.errors import EndpointBusy, EndpointFailed, InvalidRequest, JobUnknown
from chalicelib.generation import GenerationRequest
from chalicelib.images.claims import Claims
from chalicelib.images.jobs import Jobs, State, model_of
from chalicelib.images.resolved_request import ResolvedRequest, job_id
from chalicelib.images.service import Call, ImageService, _Stored
from chalicelib.settings import Model, Queue, Settings
from chalicelib.telemetry import LogRecord
from tests.gateway.doubles import PLACES, Breaks, Bucket, Crash, Provided, Runs

TIMEOUTS = QueueTimeouts(queue_seconds=600, run_seconds=100)
MODEL = Model("sdxl", None, Queue("easel-sdxl", "bucket", "jobs/"), revision="revision")
LONGEST = 60 + 600 + 100
WISHES = [GenerationRequest(prompt=f"cat {n}", seed=n, model="sdxl") for n in range(3)]


def resolved(request):
    identifier = job_id(request, MODEL.revision)
    return ResolvedRequest(request, MODEL, identifier, identifier)


def picture(request):
    """A picture that only this request has."""
    buffer = io.BytesIO()
    Image.new("RGB", (request["seed"] + 1, 1)).save(buffer, "png")
    return buffer.getvalue()


class Service(ImageService):
    """The image service, in front of the jobs of a world with its own clock."""

    def __init__(self, jobs):
        super().__init__(Settings({MODEL.name: MODEL}, 24, log_prompts=False))
        self._stored = {MODEL.name: _Stored(jobs, None)}


class World:
    """Clients, an S3 bucket, and an endpoint whose runs end one way or another."""

    def __init__(self, places="joined"):
        self.time = 1_000_000.0
        self.breaks = Breaks()
        self.bucket = Bucket(self.breaks)
        self.runs = Runs(self.breaks, places)
        store = Store(Provided(self.bucket), "bucket", "jobs/")
        endpoint = AsyncEndpoint(self.runs, "easel-sdxl")
        claims = Claims(store, LONGEST, lambda: self.time)
        self.jobs = Jobs(store, claims, endpoint, TIMEOUTS, lambda: self.time, self.sleep)
        self.service = Service(self.jobs)
        self.plans = []
        self.begun = {}
        self.over = set()

    def sleep(self, seconds):
        self.time += seconds
        for plan in [each for each in self.plans if each[0] <= self.time]:
            self.plans.remove(plan)
            plan[1]()

    def at(self, moment, happen):
        self.plans.append((moment, happen))

    def deadline(self, seconds):
        return Deadline(self.time + seconds, lambda: self.time)

    def checks(self):
        """Return a list of the moments at which S3 is asked from now on."""
        moments = []
        read = self.bucket.get_object

        def get_object(**arguments):
            moments.append(self.time)
            return read(**arguments)

        self.bucket.get_object = get_object
        return moments

    def submit(self, request):
        """Enqueue a request as one Lambda does, with the bucket and the endpoint of this world."""
        before = len(self.runs.queued)
        call = Call(Payment(), LogRecord(), Deadline(float("inf")), "trace")
        try:
            return self.service.enqueue(call, resolved(request))
        finally:
            for number in range(before, len(self.runs.queued)):
                self.begun[number] = self.time

    def alive(self):
        """Runs that wait or work, by number: SageMaker ends what has outlived its time."""
        limit = TIMEOUTS.queue_seconds + TIMEOUTS.run_seconds
        return [
            number
            for number, begun in self.begun.items()
            if number not in self.over and self.time <= begun + limit
        ]

    def asked(self, number):
        return json.loads(self.runs.queued[number]["Body"])

    def finish(self, number):
        key = self.runs.queued[number]["output"].removeprefix("s3://bucket/")
        self.bucket.objects[key] = picture(self.asked(number))
        self.over.add(number)

    def is_where_expected(self, number):
        """Whether the run's picture is at the place that its record has, or that was asked for."""
        queued = self.runs.queued[number]
        record = self.jobs.claims.read(job_id(WISHES[self.asked(number)["seed"]], MODEL.revision))
        asked_for = f"outputs/{queued['S3OutputPathExtension']}/{queued['Filename']}"
        return (record.claim.output or f"s3://bucket/jobs/{asked_for}") == queued["output"]

    def fail(self, number, body="it broke"):
        key = self.runs.queued[number]["failure"].removeprefix("s3://bucket/")
        self.bucket.objects[key] = body.encode()
        self.bucket.changed[key] = self.time
        self.over.add(number)


@pytest.fixture(params=list(PLACES))
def world(request):
    return World(request.param)


# --- Histories ------------------------------------------------------------------------------------


class Histories(RuleBasedStateMachine):
    @initialize(places=st.sampled_from(list(PLACES)))
    def begin(self, places):
        self.world = World(places)
        self.generated = set()

    @rule(request=st.sampled_from(WISHES))
    def submit(self, request):
        job = self.world.submit(request)

        assert job.id == job_id(request, "revision")
        assert job.request == request
        assert job.state is not State.EXPIRED

    @rule(
        request=st.sampled_from(WISHES),
        call=st.integers(0, 6),
        after=st.booleans(),
        trouble=st.sampled_from([None, "refused", "answer lost"]),
    )
    def submit_and_crash(self, request, call, after, trouble):
        self.world.runs.trouble = trouble
        self.world.breaks.arm(call, after=after)
        try:
            self.world.submit(request)
        except (Crash, EndpointBusy):
            pass
        finally:
            self.world.breaks.arm(None, after=False)
            self.world.runs.trouble = None

    @precondition(lambda self: self.world.alive())
    @rule(data=st.data())
    def a_run_finishes(self, data):
        number = data.draw(st.sampled_from(self.world.alive()))
        self.world.finish(number)
        # Without SageMaker's response, a picture is found only where it was asked for.
        if self.world.is_where_expected(number):
            self.generated.add(self.world.asked(number)["seed"])

    @precondition(lambda self: self.world.alive())
    @rule(data=st.data())
    def a_run_fails(self, data):
        self.world.fail(data.draw(st.sampled_from(self.world.alive())))

    @precondition(lambda self: self.world.alive())
    @rule(data=st.data())
    def an_instance_dies(self, data):
        self.world.over.add(data.draw(st.sampled_from(self.world.alive())))

    @rule(seconds=st.sampled_from([1, 30, 300, LONGEST + 1]))
    def time_passes(self, seconds):
        self.world.time += seconds

    @invariant()
    def no_picture_is_generated_twice_at_once(self):
        runs = Counter(self.world.asked(number)["seed"] for number in self.world.alive())
        assert all(count == 1 for count in runs.values())

    @invariant()
    def no_finished_picture_is_lost_or_another_ones(self):
        for request in WISHES:
            if request.seed in self.generated:
                job = self.world.jobs.find(job_id(request, "revision"))
                assert job.state is State.DONE
                assert self.world.jobs.picture(job).body == picture(request.to_dict())

    @invariant()
    def nothing_waits_for_ever(self):
        for request in WISHES:
            try:
                job = self.world.jobs.find(job_id(request, "revision"))
            except JobUnknown:
                continue
            assert job.state is not State.WAITING or job.waited <= LONGEST

    def teardown(self):
        """Whatever has happened, asking once more in the end leads to a picture."""
        if not hasattr(self, "world"):
            return
        self.world.time += LONGEST + 1
        for request in WISHES:
            job = self.world.submit(request)
            for number in self.world.alive():
                self.world.finish(number)
            assert self.world.jobs.find(job.id).state is State.DONE


TestHistories = Histories.TestCase
TestHistories.settings = settings(stateful_step_count=30)


# --- One by one -----------------------------------------------------------------------------------


def test_asking_twice_is_one_run(world):
    first, second = world.submit(WISHES[0]), world.submit(WISHES[0])

    assert first.id == second.id
    assert len(world.runs.queued) == 1


@pytest.mark.parametrize("call", range(4))
def test_two_requests_at_once_are_one_run_whichever_comes_between(world, call):
    world.breaks.interrupt(call, lambda: world.submit(WISHES[0]))
    world.submit(WISHES[0])

    assert len(world.runs.queued) == 1


@pytest.mark.parametrize("call", range(6))
def test_two_requests_for_a_failed_picture_at_once_are_one_new_run(world, call):
    world.submit(WISHES[0])
    world.fail(0)
    world.breaks.interrupt(call, lambda: world.submit(WISHES[0]))
    world.submit(WISHES[0])

    assert len(world.runs.queued) == 2


def test_what_is_queued_says_where_its_picture_goes_and_how_long_it_may_live(world):
    job = world.submit(WISHES[1])

    (queued,) = world.runs.queued
    assert json.loads(queued["Body"]) == WISHES[1].to_dict()
    assert queued["S3OutputPathExtension"] == job.id.rpartition("-")[2]
    assert queued["Filename"] == "picture.png"
    assert (queued["RequestTTLSeconds"], queued["InvocationTimeoutSeconds"]) == (600, 100)


def test_a_failure_of_a_run_whose_place_was_never_known_is_not_the_next_ones():
    world = World("one failure for all runs")
    world.runs.trouble = "answer lost"
    world.submit(WISHES[0])
    world.fail(0)
    world.time += LONGEST + 1

    assert world.submit(WISHES[0]).state is State.WAITING
    assert world.jobs.find(job_id(WISHES[0], "revision")).state is State.WAITING
    world.fail(1, "it broke again")
    assert world.jobs.find(job_id(WISHES[0], "revision")).state is State.FAILED


def test_a_failure_that_outlived_its_record_is_not_the_next_runs():
    world = World("one failure for all runs")
    job = world.submit(WISHES[0])
    world.fail(0)
    world.time += 86_400
    world.jobs.claims.forget(world.jobs.claims.read(job.id))

    assert world.submit(WISHES[0]).attempt == 1
    assert world.submit(WISHES[0]).state is State.WAITING
    assert len(world.runs.queued) == 2


def test_another_revision_is_another_picture():
    assert job_id(WISHES[0], "one") != job_id(WISHES[0], "two")


def test_a_finished_picture_is_served_again_without_a_run(world):
    world.submit(WISHES[0])
    world.finish(0)
    world.time += 100 * LONGEST

    assert world.submit(WISHES[0]).state is State.DONE
    assert len(world.runs.queued) == 1


def test_a_picture_that_is_no_longer_stored_is_expired_and_generated_again(world):
    job = world.submit(WISHES[0])
    world.finish(0)
    world.time += LONGEST + 1
    del world.bucket.objects[world.runs.queued[0]["output"].removeprefix("s3://bucket/")]

    assert world.jobs.find(job.id).state is State.EXPIRED
    assert world.submit(WISHES[0]).state is State.WAITING
    assert len(world.runs.queued) == 2


def test_a_failure_of_the_model_is_retried_when_requested_again(world):
    job = world.submit(WISHES[0])
    world.fail(0)

    assert world.jobs.find(job.id).error.code == "job_failed"
    assert world.submit(WISHES[0]).attempt == 2
    assert len(world.runs.queued) == 2


REFUSED = {
    "moderation_blocked": {"error": {"code": "moderation_blocked", "message": 'no "cats"\n'}},
    "invalid_request": {"error": {"code": "invalid_request", "message": "no", "field": "width"}},
}


def escaped(text):
    return json.dumps(text)[1:-1]


@pytest.mark.parametrize("code", REFUSED)
@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "Received client error (422) from model. See logs. {} more",
        'Received client error (400) from primary with message "{}". See https://example.org',
        '{{"error": null, "failureReason": {}}}',
    ],
)
@pytest.mark.parametrize("escapes", range(4))
def test_what_the_model_refuses_is_refused_for_good(world, form, code, escapes):
    text = json.dumps(REFUSED[code])
    for _ in range(escapes):
        text = escaped(text)
    job = world.submit(WISHES[0])
    world.fail(0, form.format(text))

    error = world.jobs.find(job.id).error
    assert (error.code, error.message) == (code, REFUSED[code]["error"]["message"])
    assert world.submit(WISHES[0]).state is State.FAILED
    assert len(world.runs.queued) == 1


def test_json_as_html_is_read_as_well():
    error = failure_of("<pre>{&quot;error&quot;: {&quot;code&quot;: &quot;invalid_request&quot;}}")

    assert error.code == "invalid_request"


@pytest.mark.parametrize(
    "text",
    [
        "Received client error (400) from model.",
        "ClientError: Received client error (422) from primary. See the endpoint's logs.",
        'The container answered with status code 400: "width".',
        "HTTP status: 422",
    ],
)
def test_a_refusal_in_plain_words_is_no_reason_to_run_again(world, text):
    job = world.submit(WISHES[0])
    world.fail(0, text)

    assert world.jobs.find(job.id).error.code == "invalid_request"
    assert world.submit(WISHES[0]).state is State.FAILED
    assert len(world.runs.queued) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "it broke",
        "Received server error (500) from model.",
        "The request expired after 400 seconds in the queue.",
        "Received server error (503) from model. The error before that was (400).",
        # What the serving toolkit makes of any exception.
        '{"code": 400, "type": "InternalServerException", "message": "CUDA error"}',
        '{"error": {"code": "generation_failed", "message": "no"}}',
        '{"error"' * 2_000,
    ],
)
def test_an_accident_is_no_refusal(text):
    assert failure_of(text).code == "job_failed"


@given(st.text())
def test_whatever_sagemaker_writes_is_an_error_of_the_job(text):
    assert failure_of(text).code in {"job_failed", "invalid_request"}


# --- Places ---------------------------------------------------------------------------------------


def test_an_old_failure_does_not_make_the_next_run_look_failed(world):
    world.submit(WISHES[0])
    world.fail(0)

    assert world.submit(WISHES[0]).state is State.WAITING
    assert world.submit(WISHES[0]).state is State.WAITING
    assert len(world.runs.queued) == 2


def test_nor_does_one_whose_next_run_died_before_it_was_queued():
    world = World("one failure for all runs")
    world.submit(WISHES[0])
    world.fail(0)
    world.breaks.arm(5, after=False)  # the call that would delete the failure
    with pytest.raises(Crash):
        world.submit(WISHES[0])
    world.time += LONGEST + 1

    assert len(world.runs.queued) == 1
    assert world.submit(WISHES[0]).state is State.WAITING
    assert world.submit(WISHES[0]).state is State.WAITING
    assert len(world.runs.queued) == 2


@pytest.mark.parametrize("moved", ["output", "failure"])
@pytest.mark.parametrize("below", ["s3://bucket/other/", "s3://other/jobs/", "https://bucket/"])
def test_a_place_that_cannot_be_read_is_refused_and_counts_as_a_run(
    world, monkeypatch, moved, below
):
    queue = world.runs.invoke_endpoint_async
    name = f"{moved.capitalize()}Location"
    monkeypatch.setattr(
        world.runs, "invoke_endpoint_async", lambda **asked: {**queue(**asked), name: f"{below}x"}
    )
    lines = []
    monkeypatch.setattr("chalicelib.images.jobs.logger.error", lambda _, **more: lines.append(more))
    for _ in range(3):
        with pytest.raises(EndpointFailed):
            world.submit(WISHES[0])

    assert len(world.runs.queued) == 1
    assert lines[0] == {"extra": {"location": f"{below}x"}}
    world.time += LONGEST + 1
    monkeypatch.setattr(world.runs, "invoke_endpoint_async", queue)
    assert world.submit(WISHES[0]).state is State.WAITING


def test_records_of_other_versions_are_read(world):
    job = world.submit(WISHES[0])
    key = next(key for key in world.bucket.objects if "records/" in key)
    record = json.loads(world.bucket.objects[key])
    del record["output"], record["earlier_failure"]
    world.bucket.objects[key] = json.dumps({**record, "newer": 1}).encode()
    asked_for = f"jobs/outputs/{job.id.rpartition('-')[2]}/picture.png"
    world.bucket.objects[asked_for] = picture(WISHES[0].to_dict())

    found = world.jobs.find(job.id)
    assert found.state is State.DONE
    assert world.jobs.picture(found).body == picture(WISHES[0].to_dict())


# --- Submissions ----------------------------------------------------------------------------------


def test_a_refused_submission_is_an_error_and_can_be_repeated_at_once(world):
    world.runs.trouble = "refused"
    with pytest.raises(EndpointBusy):
        world.submit(WISHES[0])

    assert world.submit(WISHES[0]).state is State.WAITING
    assert len(world.runs.queued) == 1


def test_a_submission_whose_answer_was_lost_is_not_sent_again(world):
    world.runs.trouble = "answer lost"

    assert world.submit(WISHES[0]).state is State.WAITING
    assert world.submit(WISHES[0]).state is State.WAITING
    assert len(world.runs.queued) == 1


def test_waiting_ends_with_the_picture(world):
    job = world.submit(WISHES[0])
    world.finish(0)
    job = world.jobs.wait(job, Deadline(float("inf")))

    assert job.state is State.DONE
    assert job.picture.body == picture(WISHES[0].to_dict())


def test_waiting_ends_with_the_failure(world):
    job = world.submit(WISHES[0])
    world.fail(0, json.dumps({"error": {"code": "invalid_request", "message": "width: no"}}))
    job = world.jobs.wait(job, Deadline(float("inf")))

    assert (job.state, job.picture) == (State.FAILED, None)
    assert isinstance(job.error, InvalidRequest)


@pytest.mark.parametrize("seconds", [0.2, 1, 4, 24])
def test_waiting_ends_shortly_before_the_deadline_with_a_last_poll(world, seconds):
    job = world.submit(WISHES[0])
    begun = world.time
    checks = world.checks()

    job = world.jobs.wait(job, world.deadline(seconds))

    assert (job.state, job.picture) == (State.WAITING, None)
    pauses = [now - before for before, now in itertools.pairwise([begun, *checks])]
    assert max(pauses) < 2.01
    assert seconds - min(seconds / 4, 0.5) - 0.02 < checks[-1] - begun < seconds


def test_a_picture_that_comes_just_before_the_deadline_is_found(world):
    job = world.submit(WISHES[0])
    world.at(world.time + 3.4, lambda: world.finish(0))

    job = world.jobs.wait(job, world.deadline(4))

    assert job.state is State.DONE
    assert job.picture.body == picture(WISHES[0].to_dict())


def test_a_job_that_was_just_read_is_not_polled_at_once(world):
    job = world.submit(WISHES[0])
    begun, checks = world.time, world.checks()

    world.jobs.wait(job, world.deadline(4))

    assert checks[0] - begun > 0.09


def test_a_wait_after_the_deadline_makes_no_call(world):
    job = world.submit(WISHES[0])
    calls = world.breaks.calls

    assert world.jobs.wait(job, world.deadline(0)) == job
    assert world.breaks.calls == calls


def test_a_crawler_gets_what_exists_with_two_calls_to_s3(world):
    crawler = Call(Payment(), LogRecord(), Deadline(float("inf")), "trace", starts_runs=False)
    missing = world.service.generate(crawler, resolved(WISHES[0]))
    world.submit(WISHES[0])
    world.finish(0)
    calls = world.breaks.calls
    finished = world.service.generate(crawler, resolved(WISHES[0]))

    assert missing is None
    assert finished.body == picture(WISHES[0].to_dict())
    assert world.breaks.calls == calls + 2  # the record says where the picture is
    assert len(world.runs.queued) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sdxl",
        "sdxl-",
        "sdxl-xyz",
        "../" + "a" * 32,
        "-" + "0" * 32,
        "sdxl-" + "0" * 33,
        "sdxl-" + "0" * 32 + "/x",
    ],
)
def test_a_text_that_is_not_an_id_is_unknown(text):
    with pytest.raises(JobUnknown):
        model_of(text)


def test_an_id_names_its_model():
    assert model_of(job_id(GenerationRequest(prompt="x", model="sd-turbo"), "")) == "sd-turbo"


def test_an_unknown_job_is_an_error(world):
    with pytest.raises(JobUnknown):
        world.jobs.find("sdxl-" + "0" * 32)
