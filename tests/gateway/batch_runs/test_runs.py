"""Batches that lose Lambdas and events at any moment: every line is answered exactly once."""

import json
import threading
import time
from operator import itemgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.access_settings import Protection
from chalicelib.aws.deadline import Deadline, sharing
from chalicelib.aws.s3 import Store
from chalicelib.backends.setting import read as read_backend
from chalicelib.batch_runs import output
from chalicelib.batch_runs.files import MOST_FILES
from chalicelib.batch_runs.part_runs import LONGEST
from chalicelib.batch_runs.runs import BatchRuns
from chalicelib.batches import places
from chalicelib.calendar_month import month_of
from chalicelib.errors import RateLimited
from chalicelib.settings import Model, Queue
from tests.conftest import ALL
from tests.gateway.batch_runs.world import World, line
from tests.gateway.doubles import Breaks, Bucket, Provided, key, refusal


def seeds(world):
    return [json.loads(run["Body"])["seed"] for run in world.runtime.queued]


def errors(world, batch):
    return [(one["line"], one["param"]) for one in world.batch(batch).errors]


def test_events_alone_finish_a_batch():
    world = World()
    batch = world.create(*(line(number) for number in range(40)))
    while not world.batch(batch).is_over:
        world.deliver_all()
        # A window of two parts: one instance would need an hour for all.
        assert len(world.alive) <= 16
        for number in world.alive[:1]:
            world.finish(number)

    assert world.batch(batch).status == "completed"
    world.check(batch, 40)
    assert len(set(seeds(world))) == len(seeds(world)) == 40
    assert not [name for name in world.bucket.objects if name.startswith(places.opened())]


def test_events_that_never_come_are_not_needed():
    world = World()
    batch = world.create(*(line(number) for number in range(20)))
    world.complete(batch)

    assert world.batch(batch).status == "completed"
    world.check(batch, 20)
    assert len(seeds(world)) == 20


def test_events_that_come_twice_and_late_change_nothing():
    world = World()
    batch = world.create(*(line(number) for number in range(12)))
    for _ in range(20):
        for event in [*world.bucket.events, *world.bucket.events]:
            world.deliver(event)
        for number in world.alive:
            world.finish(number)

    world.check(batch, 12)
    assert len(seeds(world)) == 12


def crashing(count, limit):
    """Return at which call of a whole batch, and before or after it, a Lambda can be lost."""
    world = World()
    world.complete(world.create(*(line(number) for number in range(count))))
    assert world.breaks.calls < limit
    return [(call, after) for call in range(world.breaks.calls) for after in (False, True)]


@pytest.mark.parametrize(("call", "after"), crashing(3, 120))
def test_a_lambda_that_is_lost_at_any_call_loses_no_line(call, after):
    world = World()
    batch = world.create(line(0), line(1, n=2), line(2))
    world.crash(lambda: world.complete(batch), call, after=after)
    lost = world.now
    world.complete(batch)

    assert world.batch(batch).status == "completed"
    world.check(batch, 3)
    # What a lost Lambda may have queued is queued again only when it cannot be alive.
    assert len(seeds(world)) == 4 or world.now > lost + LONGEST


def an_event(world, batch, data):
    if world.bucket.events:
        world.deliver(data.draw(st.sampled_from(world.bucket.events)))


def a_lost_lambda(world, batch, data):
    call, after = data.draw(st.integers(0, 60)), data.draw(st.booleans())
    world.crash(lambda: world.advance(batch), call, after=after)


def a_picture(world, batch, data):
    if world.alive:
        world.finish(data.draw(st.sampled_from(world.alive)))


def a_failure(world, batch, data):
    refused = '{"error": {"code": "invalid_request", "message": "no"}}'
    if world.alive:
        number = data.draw(st.sampled_from(world.alive))
        world.fail(number, data.draw(st.sampled_from([refused, "it broke"])))


def time_passes(world, batch, data):
    world.now += data.draw(st.sampled_from([60, LONGEST + 1, 90_000]))


def trouble(world, batch, data):
    world.runtime.trouble = data.draw(st.sampled_from(["refused", "answer lost"]))


def cancelling(world, batch, data):
    if data.draw(st.integers(0, 3)) == 0:
        world.runs.cancel(world.batch(batch))


def a_look(world, batch, data):
    world.advance(batch)


STEPS = (an_event, a_lost_lambda, a_picture, a_failure, time_passes, trouble, cancelling, a_look)


@settings(max_examples=300 if ALL else 25)
@given(st.data())
def test_histories(data):
    world = World(places=data.draw(st.sampled_from(["joined", "one failure for all runs"])))
    count = data.draw(st.integers(1, 20))
    batch = world.create(*(line(number) for number in range(count)))
    since = {}
    for step in data.draw(st.lists(st.sampled_from(STEPS), max_size=15)):
        step(world, batch, data)
        for number in range(len(world.runtime.queued)):
            since.setdefault(number, world.now)
        # Those that the instance may still paint: older ones SageMaker has dropped.
        young = [
            seeds(world)[number] for number in world.alive
            if world.now - since[number] < LONGEST - 60
        ]  # fmt: skip
        assert len(young) == len(set(young)), "a picture is queued twice at a time"
    world.complete(batch)

    assert world.batch(batch).status in {"completed", "cancelled", "expired"}
    if world.batch(batch).lines:
        world.check(batch, count)


# --- Lines ----------------------------------------------------------------------------------------


def test_a_poisoned_line_fails_alone():
    world = World()
    batch = world.create(*(line(number) for number in range(5)))
    world.advance(batch)
    body = '{"error": {"code": "invalid_request", "message": "no", "field": "lora"}}'
    world.fail(world.run_of(2), body)
    world.complete(batch)

    world.check(batch, 5)
    (row,) = world.rows(batch, "errors")
    assert row["custom_id"] == "r2"
    assert row["response"]["status_code"] == 400
    assert row["response"]["body"]["error"]["param"] == "lora"
    assert len(seeds(world)) == 5  # the same would be refused again


def test_an_accident_is_tried_once_more():
    world = World()
    batch = world.create(line(0), line(1))
    world.advance(batch)
    world.fail(world.run_of(1))
    world.advance(batch)
    assert len(seeds(world)) == 3
    world.fail(2)
    world.complete(batch)

    world.check(batch, 2)
    (row,) = world.rows(batch, "errors")
    assert row["response"]["status_code"] == 502
    assert len(seeds(world)) == 3


def test_a_failure_of_a_run_whose_place_was_never_known_is_not_the_next_ones():
    world = World(places="one failure for all runs")
    batch = world.create(line(0), line(1))
    world.runtime.trouble = "answer lost"
    world.advance(batch)
    world.fail(0)
    world.fail(1)
    world.now += LONGEST + 1
    world.advance(batch)
    assert len(seeds(world)) == 4
    world.fail(3, '{"error": {"code": "invalid_request", "message": "no"}}')
    world.advance(batch)
    world.complete(batch)

    world.check(batch, 2)
    assert [row["custom_id"] for row in world.rows(batch, "output")] == ["r0"]
    assert len(seeds(world)) == 4


def test_the_prompt_filter_refuses_a_line_alone():
    world = World(Protection(keys=(key("ada"),), filter_mode="refuse"))
    batch = world.create(line(0), line(1, "a naked child"), line(2))
    world.complete(batch)

    world.check(batch, 3)
    (row,) = world.rows(batch, "errors")
    assert row["response"]["body"]["error"]["code"] == "moderation_blocked"
    assert len(seeds(world)) == 2


def test_a_refused_line_beside_an_endpoint_that_takes_nothing_waits_for_it(monkeypatch):
    world = World(Protection(keys=(key("ada"),), filter_mode="refuse"))
    batch = world.create(line(0, "a naked child"), *(line(number) for number in range(1, 8)))
    asked = []

    def throttled(run):
        asked.append(run)
        raise refusal("ThrottlingException")

    with monkeypatch.context() as patch:
        patch.setattr(world.runtime, "_queue", throttled)
        world.advance(batch)
        assert len(asked) == 7
        world.advance(batch)
        assert len(asked) == 8  # one is enough to see it
    world.complete(batch)

    world.check(batch, 8)
    assert [row["custom_id"] for row in world.rows(batch, "errors")] == ["r0"]
    assert len(seeds(world)) == 7


def test_a_lost_picture_is_tried_once_more():
    world = World()
    batch = world.create(line(0), line(1))
    world.advance(batch)
    world.finish(world.run_of(1))
    for _ in range(3):
        world.now += LONGEST + 1
        world.advance(batch)
    world.deliver_all()

    assert len(seeds(world)) == 3
    assert world.batch(batch).status == "completed"
    world.check(batch, 2)
    (row,) = world.rows(batch, "errors")
    assert (row["custom_id"], row["response"]["status_code"]) == ("r0", 503)
    assert row["response"]["body"]["error"]["code"] == "job_expired"


@pytest.mark.parametrize("place", ["output", "failure"])
def test_an_endpoint_that_writes_elsewhere_is_not_asked_again(monkeypatch, place):
    world = World()
    batch = world.create(line(0), line(1))
    queue, location = world.runtime._queue, f"{place.title()}Location"
    elsewhere = {location: "s3://bucket/other/0"}  # the bucket, but not the model's part of it
    monkeypatch.setattr(world.runtime, "_queue", lambda run: queue(run) | elsewhere)
    world.advance(batch)
    world.deliver_all()

    assert len(seeds(world)) == 1
    world.check(batch, 2)
    codes = [row["response"]["body"]["error"]["code"] for row in world.rows(batch, "errors")]
    assert codes == ["endpoint_failed"] * 2


def test_what_is_not_a_picture_is_an_error_of_its_line():
    world = World()
    batch = world.create(line(0), line(1))
    world.advance(batch)
    world.over.add(world.run_of(0))
    place = world.runtime.queued[world.run_of(0)]["output"].removeprefix("s3://bucket/")
    world.bucket._put(place, b"no picture", None, None)
    world.complete(batch)

    world.check(batch, 2)
    assert [row["custom_id"] for row in world.rows(batch, "errors")] == ["r0"]


def test_a_line_of_several_pictures_fails_as_a_whole():
    world = World()
    batch = world.create(line(0, n=3), line(1, n=10))
    world.advance(batch)
    world.fail(world.run_of(1), '{"error": {"code": "invalid_request", "message": "no"}}')
    world.complete(batch)

    world.check(batch, 2)
    assert [row["custom_id"] for row in world.rows(batch, "errors")] == ["r0"]
    (row,) = world.rows(batch, "output")
    assert len(row["response"]["body"]["data"]) == 10


# --- The file -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([line(0), "{"], [(2, None)]),
        ([line(0), line(0)], [(2, "custom_id")]),
        ([line(0), "", line(1, size="big"), line(2, steps=0)], [(3, "size"), (4, "steps")]),
        ([line(0), line(1, model="fast")], [(2, "model")]),
        ([line(0), line(1, n=11)], [(2, "n")]),
        ([""], [(None, None)]),
        ([line(0).replace("images/generations", "embeddings")], [(1, "url")]),
    ],
)
def test_a_wrong_file_is_refused_with_the_numbers_of_its_lines(lines, found):
    world = World(fast=Model("fast", "easel-fast"))
    batch = world.create(*lines)
    world.advance(batch)

    assert world.batch(batch).status == "failed"
    assert errors(world, batch) == found
    assert not world.runtime.queued


def test_a_batch_has_one_model():
    more = World().settings.models["slow"]
    world = World(other=Model("other", None, more.queue))
    models = ("gpt-image-1", "other", "slow")
    batch = world.create(*(line(number, model=name) for number, name in enumerate(models)))
    world.advance(batch)

    assert errors(world, batch) == [(2, "model")]


def test_a_file_that_was_deleted_is_refused():
    world = World()
    batch = world.create(line(0))
    for name in [name for name in world.bucket.objects if name.startswith(places.FILES)]:
        del world.bucket.objects[name]
    world.advance(batch)

    assert world.batch(batch).errors[0]["code"] == "invalid_file"


# --- Money, keys and cancelling -------------------------------------------------------------------


def test_a_batch_that_the_budget_cannot_pay_is_refused_before_any_cost():
    budget = Protection(keys=(key("ada", usd_per_month=1),))
    world = World(budget, usage=("bucket", "usage/"), seconds=225)
    batch = world.create(*(line(number) for number in range(5)))  # 0.225 USD each
    world.advance(batch)

    assert world.batch(batch).errors[0]["code"] == "budget_used"
    assert not world.runtime.queued


def test_a_batch_waits_while_the_cap_is_reached_and_expires():
    world = World(spend=("bucket", "spend/"))
    batch = world.create(*(line(number) for number in range(20)))
    world.advance(batch)
    queued = len(world.runtime.queued)
    assert 0 < queued < 20
    spending = {"state": "reached", "cap_usd": 1, "usd": 1, "month": "x"}
    name = f"spend/{month_of(time.time())}.json"
    world.bucket.objects[name] = json.dumps(spending).encode()
    for number in world.alive:
        world.finish(number)
    for _ in range(3):
        world.advance(batch)
    assert len(world.runtime.queued) == queued
    assert world.batch(batch).status == "in_progress"
    world.now += 90_000
    world.complete(batch)

    assert world.batch(batch).status == "expired"
    world.check(batch, 20)
    codes = {row["error"]["code"] for row in world.rows(batch, "errors")}
    assert codes == {"batch_expired"}
    assert world.batch(batch).completed == queued


def test_a_batch_of_a_key_that_is_gone_queues_nothing_more():
    world = World()
    batch = world.create(*(line(number) for number in range(20)))
    world.advance(batch)
    queued = len(world.runtime.queued)
    world.settings = World(Protection(keys=(key("bob"),))).settings
    for number in world.alive:
        world.finish(number)
    world.advance(batch)

    assert len(world.runtime.queued) == queued
    world.now += 90_000
    world.complete(batch)
    world.check(batch, 20)


def test_cancelling_keeps_what_was_queued_and_queues_nothing_more():
    world = World()
    batch = world.create(*(line(number) for number in range(30)))
    world.advance(batch)
    queued = len(world.runtime.queued)
    world.runs.cancel(world.batch(batch))
    world.advance(batch)
    assert world.batch(batch).status == "cancelling"
    world.complete(batch)

    assert world.batch(batch).status == "cancelled"
    assert len(world.runtime.queued) == queued == world.batch(batch).completed
    world.check(batch, 30)
    assert {row["error"]["code"] for row in world.rows(batch, "errors")} == {"batch_cancelled"}


def test_a_batch_is_cancelled_before_its_file_is_read():
    world = World()
    batch = world.create(line(0))
    world.runs.cancel(world.batch(batch))
    world.advance(batch)

    assert world.batch(batch).status == "cancelled"
    assert not world.runtime.queued


def test_an_endpoint_that_takes_nothing_is_tried_again():
    world = World()
    batch = world.create(*(line(number) for number in range(3)))
    world.runtime.trouble = "refused"
    world.advance(batch)
    assert not world.runtime.queued
    world.advance(batch)

    assert len(world.runtime.queued) == 3
    world.complete(batch)
    world.check(batch, 3)


# --- The output -----------------------------------------------------------------------------------


@pytest.mark.parametrize("smallest", [900, 4_000])
@pytest.mark.parametrize("call", range(195, 219))
def test_a_large_output_is_put_together_however_often_it_is_interrupted(
    monkeypatch, call, smallest
):
    world = World()
    batch = world.create(*(line(number) for number in range(40)))
    monkeypatch.setattr(output, "_SMALLEST_PART", smallest)
    monkeypatch.setattr(Bucket, "smallest_part", smallest)
    world.crash(lambda: world.complete(batch), call, after=bool(call % 2))
    world.complete(batch)

    world.check(batch, 40)


def test_small_results_are_read_together():
    """One after the other, the thousands of a cancelled batch take longer than a Lambda has."""
    together = threading.Barrier(4, timeout=10)

    class Slow(Bucket):
        def get_object(self, Bucket, Key, Range=None):
            together.wait()  # breaks unless three others are read at the same time
            return super().get_object(Bucket, Key, Range)

    bucket, batch = Slow(Breaks()), places.new_id(0)
    rows = [f"{number}\n".encode() for number in range(8)]
    for number, row in enumerate(rows):
        bucket.objects[f"{places.failures(batch)}{number}"] = row
    store = Store(Provided(bucket), "bucket", "")
    made = output.Output(store, batch, lambda: None).put_together()

    assert made == {output.ERRORS: 16}
    assert bucket.objects[places.finished(batch, output.ERRORS)] == b"".join(rows)


def test_a_step_without_time_is_continued_by_an_event():
    world = World()
    batch = world.create(line(0))
    world.advance(batch)
    world.finish(0)
    world.bucket.events.clear()
    with sharing(Deadline(time.monotonic() + 0.9)):
        world.advance(batch)

    assert places.go(batch) in world.bucket.events
    world.deliver_all()
    world.check(batch, 1)


def test_steps_without_time_at_once_are_continued_by_one_event(monkeypatch):
    world = World()
    batch = world.create(line(0))
    world.advance(batch)
    world.finish(0)
    runs, check_time = world.runs, BatchRuns._check_time

    def meanwhile(running):
        if running is runs:
            monkeypatch.setattr(BatchRuns, "_check_time", check_time)
            world.advance(batch)
        check_time(running)

    for _ in range(2):  # before anything was continued, and afterwards
        world.bucket.events.clear()
        monkeypatch.setattr(BatchRuns, "_check_time", meanwhile)
        with sharing(Deadline(time.monotonic() + 0.9)):
            runs.advance(batch)
        assert world.bucket.events == [places.go(batch)]
    world.deliver_all()
    world.check(batch, 1)


def test_a_broken_batch_does_not_keep_others_from_being_repaired():
    world = World()
    first, second = world.create(line(0)), world.create(line(0))
    for broken, sound in ((first, second), (second, first)):
        world.bucket.objects[places.record(broken)], kept = (
            b"no JSON",
            world.bucket.objects[places.record(broken)],
        )
        world.runs.repair()
        world.bucket.objects[places.record(broken)] = kept
        assert world.batch(sound).status == "in_progress"


# --- Files ----------------------------------------------------------------------------------------


def test_a_key_has_a_limited_number_of_files():
    world = World()
    owner, old = places.owner_of("ada"), world.now - 90_000
    for _ in range(MOST_FILES - 1):
        world.bucket.objects[places.content(owner, places.new_id(old))] = b"{}"
    for _ in range(3):  # the output of batches
        world.bucket.objects[places.described(owner, places.new_id(old))] = b"{}"
    files = world.runs.files
    expected, _ = files.expect(owner, "last.jsonl", 2, "batch", world.now)
    before = set(world.bucket.objects)
    with pytest.raises(RateLimited, match="Delete some"):
        files.create(owner, "in.jsonl", b"{}", "batch", world.now)
    with pytest.raises(RateLimited):
        files.expect(owner, "in.jsonl", 2, "batch", world.now)
    assert set(world.bucket.objects) == before
    files.create(places.owner_of("bob"), "in.jsonl", b"{}", "batch", world.now)
    files.delete(owner, expected)
    files.create(owner, "in.jsonl", b"{}", "batch", world.now)


def test_a_batch_of_a_model_without_a_seed_is_sent_without_one():
    queue = Queue("theirs", "bucket", "jobs/")
    world = World(slow=Model("slow", None, queue, backend=read_backend("hugging-face")))
    batch = world.create(line(1, n=2), line(2, size="512x512"))
    refused = world.create(line(1), line(2, seed=7))
    world.deliver_all()

    # In any order: they are sent in parallel.
    sent = sorted(
        (json.loads(run["Body"]) for run in world.runtime.queued), key=itemgetter("inputs")
    )
    assert [(body["inputs"], body["parameters"]) for body in sent] == [
        ("a cat 1", {}),
        ("a cat 1", {}),
        ("a cat 2", {"width": 512, "height": 512}),
    ]
    assert world.batch(batch).status == "in_progress"
    assert errors(world, refused) == [(2, "seed")]


def test_content_without_a_description_is_listed_and_can_be_deleted():
    world = World()
    owner, files = places.owner_of("ada"), world.runs.files
    expected, _ = files.expect(owner, "last.jsonl", 2, "batch", world.now)
    # Its URL is still valid.
    files.delete(owner, expected)
    world.bucket.objects[expected.key] = b"{}"
    # A Lambda is lost before it has written the description.
    world.crash(
        lambda: files.create(owner, "in.jsonl", b"{}\n", "batch", world.now + 5), 2, after=False
    )
    found = files.read(owner, files.every(owner))

    assert [(file.name, file.created - world.now, file.size) for file in found] == [
        ("unnamed.jsonl", 5, 3),
        ("unnamed.jsonl", 0, 2),
    ]
    assert files.content(files.find(owner, expected.id), 10) == b"{}"
    for file in found:
        files.delete(owner, file)
    assert files.every(owner) == []
    assert not [key for key in world.bucket.objects if key.startswith(places.FILES)]
