"""The queue's estimates, with a clock that the tests move."""

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_package.server.errors import Refused, ServerError
from model_package.server.queue.job import Job, Stage
from model_package.server.queue.waiting import LONGEST_SECONDS, Pace, Waiting
from model_package.server.script.functions import Context


def anything(request):
    return True


class Bench:
    """A queue whose requests are the seconds that they take, and what was delivered."""

    def __init__(self):
        self.now = 1000.0
        self.results = {}
        self.waiting = Waiting(lambda request: request, clock=lambda: self.now)
        self.waiting.pace = Pace(prior=0)

    def put(self, seconds, within=math.inf):
        job = Job(
            seconds,
            Context("model"),
            lambda result: self.results.__setitem__(job, result),
            deadline=self.now + within,
            clock=lambda: self.now,
        )
        self.waiting.put(job)
        return job

    def take(self):
        return self.waiting.take(anything, wait=False)

    def paint(self, job, seconds):
        self.now += seconds
        self.waiting.pace.spent(seconds)
        self.waiting.finish(job, "picture")

    def status(self, job):
        result = self.results.get(job)
        return result.status if isinstance(result, ServerError) else result


@pytest.fixture
def bench():
    return Bench()


def test_requests_are_taken_in_the_order_of_arrival(bench):
    jobs = [bench.put(1) for _ in range(3)]

    assert [bench.take() for _ in range(4)] == [*jobs, None]
    assert {job.stage for job in jobs} == {Stage.GENERATING}


def test_the_queue_is_bounded_by_seconds_and_not_by_count(bench):
    for _ in range(440):
        bench.put(0.125, within=55)
    with pytest.raises(Refused) as refused:
        bench.put(0.125, within=55)

    assert (refused.value.status, refused.value.code) == (503, "busy")
    assert refused.value.headers == {"Retry-After": "1"}
    bench.put(0.125, within=60)  # a patient caller can still wait


def test_a_request_that_takes_too_long_by_itself_is_refused(bench):
    with pytest.raises(Refused, match="fewer steps or pixels") as refused:
        bench.put(56, within=55)
    assert refused.value.retry_after == 60
    assert bench.waiting.counts == (0, 0)


def test_a_caller_without_a_deadline_waits_an_hour_at_most(bench):
    bench.put(LONGEST_SECONDS)
    with pytest.raises(Refused):
        bench.put(1)


def test_a_deadline_that_has_passed_is_a_504(bench):
    with pytest.raises(ServerError) as raised:
        bench.put(1, within=0)
    assert (raised.value.status, raised.value.code) == (504, "too_slow")


def test_retry_after_says_when_the_queue_is_short_enough(bench):
    bench.put(50, within=55)
    with pytest.raises(Refused) as refused:
        bench.put(20, within=55)
    assert refused.value.retry_after == 15


@given(st.lists(st.integers(1, 30), min_size=2, max_size=12), st.integers(1, 59))
def test_after_retry_after_the_same_request_is_accepted(seconds, within):
    bench = Bench()
    for each in seconds[:-1]:
        bench.put(each)
    try:
        bench.put(seconds[-1], within=within)
    except Refused as refused:
        if seconds[-1] >= within:  # never in time
            return
        job, done = None, 0
        for _ in range(refused.retry_after):
            job, done = (job, done) if job else (bench.take(), 0)
            bench.now, done = bench.now + 1, done + 1
            job.progressed(done, job.request)
            bench.waiting.pace.spent(1)
            if done == job.request:
                bench.waiting.finish(job, "picture")
                job = None
        bench.put(seconds[-1], within=within + 0.01)  # the pace is a fraction


def test_a_part_of_a_second_counts_as_one(bench):
    bench.put(50, within=55)
    with pytest.raises(Refused) as refused:
        bench.put(6.2, within=55)
    assert refused.value.retry_after == 2


def test_a_request_that_never_fits_is_not_told_to_wait_for_the_queue(bench):
    bench.put(1)
    with pytest.raises(Refused, match="fewer steps") as refused:
        bench.put(70, within=55)
    assert refused.value.retry_after == 60


def test_giving_up_does_not_count_a_request_twice(bench):
    bench.put(20)
    bench.take()
    job = bench.put(5, within=26)
    bench.now += 21
    assert bench.waiting.give_up(job).retry_after == 1


def test_who_has_left_is_dropped_before_any_step(bench):
    first, second = bench.put(1), bench.put(1)
    bench.waiting.withdraw(first)

    assert bench.take() is second
    assert first.cancelled()
    assert bench.take() is None


def test_who_leaves_while_painted_is_told_to_the_engine(bench):
    job = bench.put(1)
    bench.take()
    assert not job.cancelled()
    bench.waiting.withdraw(job)
    assert job.cancelled()
    assert bench.waiting.counts == (0, 1)


def test_what_turns_out_too_late_is_refused_while_its_caller_is_still_there(bench):
    slow, first, second = bench.put(10), bench.put(10, within=45), bench.put(10, within=45)
    bench.take()
    bench.waiting.revise()
    assert bench.results == {}
    bench.now += 5
    slow.progressed(1, 4)  # 5 s for a quarter: twice as slow as expected
    bench.waiting.pace.spent(5)
    bench.waiting.revise()

    assert bench.status(second) == 503
    assert first not in bench.results
    assert bench.now < second.deadline


def test_a_deadline_that_passes_in_the_queue_is_a_503_because_nothing_was_painted(bench):
    bench.put(0)
    job = bench.put(0, within=5)
    bench.now += 6
    bench.waiting.revise()
    assert bench.status(job) == 503


def test_giving_up_says_whether_painting_had_begun(bench):
    first, second = bench.put(1, within=5), bench.put(1, within=5)
    bench.take()
    assert [bench.waiting.give_up(job).code for job in (first, second)] == ["too_slow", "busy"]
    assert first.cancelled()
    assert bench.waiting.counts == (0, 1)


def test_painting_together_makes_room_for_more(bench):
    for _ in range(8):
        bench.put(8)
    painted = [bench.take() for _ in range(8)]
    for job in painted:
        job.progressed(1, 2)
    bench.waiting.pace.spent(8)  # half of eight pictures of 8 s in 8 s: four times as fast
    assert bench.waiting.seconds == pytest.approx(8)
    bench.put(8, within=20)  # 64 s of pictures one by one


def test_a_new_request_overtakes_one_without_room_only_a_few_times(bench):
    blocked = bench.put(1)
    others = [bench.put(2) for _ in range(12)]

    def take():
        return bench.waiting.take(lambda seconds: seconds == 2, wait=False)

    taken = [take() for _ in range(12)]
    assert taken[:8] == others[:8]
    assert taken[8:] == [None] * 4
    assert bench.take() is blocked


def test_closing_keeps_what_can_be_finished_in_time(bench):
    first, second, third = bench.put(10), bench.put(10), bench.put(10)
    bench.take()
    bench.waiting.close(lambda: Refused("stopping", "It ends.", 10), bench.now + 25)

    assert bench.status(third) == 503
    assert first not in bench.results
    assert second not in bench.results
    with pytest.raises(Refused, match="It ends"):
        bench.put(0)


def test_at_the_end_everything_has_a_response_and_only_one(bench):
    first, second = bench.put(1), bench.put(1)
    bench.take()
    bench.waiting.refuse_all(lambda: Refused("stopping", "It ends.", 10))
    bench.waiting.finish(first, "picture")

    assert [bench.status(job) for job in (first, second)] == [503, 503]
    assert first.cancelled()


def test_taking_waits_for_a_request(bench):
    taken = []
    thread = threading.Thread(target=lambda: taken.append(bench.waiting.take(anything, wait=True)))
    thread.start()
    job = bench.put(1)
    thread.join(60)
    assert taken == [job]


def test_seconds_left_count_what_is_before_a_request(bench):
    first, second = bench.put(10), bench.put(4)
    assert bench.waiting.seconds_left(second) == 14
    bench.take()
    first.progressed(5, 10)
    bench.waiting.pace.spent(5)
    assert bench.waiting.seconds_left(second) == 9
    bench.paint(first, 5)
    assert bench.waiting.seconds_left(first) is None


@given(
    st.lists(
        st.tuples(st.floats(0.01, 20), st.floats(0.1, 100), st.sampled_from("ptlr")), max_size=40
    )
)
def test_every_accepted_request_gets_one_response_and_none_is_painted_late(events):
    bench = Bench()
    accepted, painting, statuses = [], [], set()
    for seconds, within, action in events:
        if action == "p":
            try:
                accepted.append(bench.put(seconds, within))
            except ServerError as error:
                statuses.add(error.status)
        elif action == "t" and (job := bench.take()) is not None:
            bench.waiting.revise()
            painting.append(job)
        elif action == "l" and accepted:
            bench.waiting.withdraw(accepted[0])
        elif action == "r":
            for job in painting:
                bench.paint(job, job.request)
            painting = []
            bench.waiting.revise()
    bench.waiting.refuse_all(lambda: Refused("stopping", "It ends.", 1))

    assert set(bench.results) == set(accepted)
    assert statuses <= {503, 504}
    assert bench.waiting.counts[0] == 0


def test_one_slow_step_says_little():
    pace = Pace()
    pace.worked(0.1)
    pace.spent(5)
    assert pace.until_done(10, 0, alone=False) < 16


def test_the_pace_forgets_how_it_was_long_ago():
    pace = Pace()
    for _ in range(100):
        pace.worked(1)
        pace.spent(10)
    for _ in range(40):
        pace.worked(10)
        pace.spent(10)
    assert pace.until_done(10, 0, alone=False) == pytest.approx(10, rel=0.1)
