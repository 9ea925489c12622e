"""Several requests at a time: what is tried again, and what is given up."""

from __future__ import annotations

import io
import threading
from collections import Counter

import pytest

from endpoint.core.batches.lines import read_file
from endpoint.core.console import Console
from endpoint.core.problems import ScriptError, TookTooLong
from endpoint.provision.batches.direct import Busy, Direct, Failed
from endpoint.provision.batches.folder import opened
from endpoint.provision.batches.run import Run
from tests.endpoint.doubles import PNG, InstantClock, Terminal


@pytest.fixture
def run(tmp_path):
    lines = read_file(".txt", b"a\nb\nc\nd", ["sd"])
    clock = InstantClock()
    with opened(tmp_path, lines) as folder:
        run = Run(folder, Console(clock, progress=io.StringIO()), clock)
        run.clock = clock
        yield run


def paint(run, work, at_once=1):
    asked = Counter()

    def counted(task):
        asked[task.picture.request.prompt] += 1
        return work(task.picture.request.prompt, asked)

    Direct(run, run.clock, counted, at_once).paint()
    return dict(asked)


def statuses(run):
    return {name: row["response"]["status_code"] for name, row in run.folder.results.items()}


def test_every_picture_is_asked_for_once(run):
    assert paint(run, lambda *_: PNG, at_once=3) == dict.fromkeys("abcd", 1)
    assert set(statuses(run).values()) == {200}


def test_a_refused_one_is_given_up_at_once(run):
    def work(prompt, _):
        if prompt == "b":
            raise Failed("no", 422)
        return PNG

    assert paint(run, work) == dict.fromkeys("abcd", 1)
    assert statuses(run) == {"0001": 200, "0002": 422, "0003": 200, "0004": 200}


def test_one_that_always_fails_by_accident_is_given_up_and_the_others_are_painted(run):
    def work(prompt, _):
        if prompt == "d":
            raise Busy("broken")
        return PNG

    asked = paint(run, work)

    assert asked["d"] > 1
    assert statuses(run) == {"0001": 200, "0002": 200, "0003": 200, "0004": 500}


def test_no_room_is_never_the_pictures_fault(run):
    def work(prompt, asked):
        if prompt == "a" and asked["a"] < 40:
            raise Busy("full", 1, counts=False)
        return PNG

    assert paint(run, work)["a"] == 40
    assert set(statuses(run).values()) == {200}


def test_a_model_that_is_still_loading_is_waited_for(run):
    def work(prompt, asked):
        if sum(asked.values()) < 100:
            raise Busy("loading", 5)
        return PNG

    paint(run, work)

    assert set(statuses(run).values()) == {200}
    assert 400 < run.clock.monotonic() < 600


def test_without_any_picture_for_twenty_minutes_it_ends(run):
    def work(*_):
        raise Busy("loading", 5)

    with pytest.raises(TookTooLong, match="no picture for 20 minutes: loading"):
        paint(run, work)
    assert statuses(run) == {}


def test_what_was_on_its_way_when_the_run_ends_by_an_error_is_stored(run):
    is_refused = threading.Event()

    def work(prompt, _):
        if prompt == "a":
            is_refused.set()
            raise ScriptError("The budget is used up.")
        is_refused.wait()
        return PNG

    with pytest.raises(ScriptError, match="budget"):
        paint(run, work, at_once=2)
    assert statuses(run)["0002"] == 200
    assert "0001" not in statuses(run)


def test_the_progress_has_speed_time_left_failures_and_the_cost_of_the_rest(tmp_path):
    lines = read_file(".txt", "\n".join(f"p{n}" for n in range(10)).encode(), ["sd"])
    clock, screen = InstantClock(), Terminal()
    with opened(tmp_path, lines) as folder:
        run = Run(folder, Console(clock, progress=screen), clock)
        run.usd_per_hour = 3.6
        for number in range(5):
            run.add(number, PNG)
            clock.sleep(2)
        run.fail(5, "no", 422)

        line = run.line("4 queued")
        run.show()

    assert line == (
        "[##############..........] 6 of 10, 24.0 a minute, 10 s left, 0.01 USD to go, 1 failed,"
        " 4 queued"
    )
    assert "6 of 10" in screen.getvalue()


def test_in_a_log_the_progress_is_a_line_a_minute(tmp_path):
    lines = read_file(".txt", b"a\nb\nc", ["sd"])
    clock, log = InstantClock(), io.StringIO()
    with opened(tmp_path, lines) as folder:
        run = Run(folder, Console(clock, progress=log), clock)
        for _ in range(200):
            run.show("waiting")
            clock.sleep(1)

    assert len(log.getvalue().splitlines()) == 4
