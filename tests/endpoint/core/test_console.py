from __future__ import annotations

import io
import json

import pytest

from endpoint.core.console import Console, elapsed
from endpoint.core.problems import Declined
from tests.endpoint.world import World, empty_account


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> World:
    with empty_account() as world:
        return world


def test_a_long_wait_is_mentioned_once_a_minute_where_lines_stay(clock):
    said = io.StringIO()
    console = Console(clock, progress=said)
    for _ in range(30):
        console.waiting("creating", 0.0)
        clock.sleep(5)
    lines = said.getvalue().splitlines()
    assert lines == ["  creating (0 s)", "  creating (1 min 00 s)", "  creating (2 min 00 s)"]


def test_a_new_phase_is_mentioned_at_once(clock):
    said = io.StringIO()
    console = Console(clock, progress=said)
    console.waiting("creating", 0.0)
    console.waiting("in service", 0.0)
    assert len(said.getvalue().splitlines()) == 2


def test_on_a_terminal_one_line_counts_the_seconds(clock):
    said = _Terminal()
    console = Console(clock, progress=said)
    for _ in range(3):
        console.waiting("creating", 0.0)
        clock.sleep(1)
    console.say("done")
    assert said.getvalue().count("\n") == 2
    assert "(2 s)" in said.getvalue()


def test_questions_are_answered_by_yes(clock):
    Console(clock, yes=True).ask("Sure?")


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("YES\n", True), ("\n", False),
                                                ("n\n", False), ("", False)])  # fmt: skip
def test_only_a_clear_yes_agrees(clock, monkeypatch, answer, agreed):
    monkeypatch.setattr("sys.stdin", _Terminal(answer))
    console = Console(clock, progress=io.StringIO())
    if agreed:
        console.ask("Sure?")
    else:
        with pytest.raises(Declined, match="Nothing was changed"):
            console.ask("Sure?")


def test_json_holds_the_data_and_nothing_of_the_lines(clock):
    out = io.StringIO()
    Console(clock, as_json=True, results=out).result({"a": 1}, ["for people"])
    assert json.loads(out.getvalue()) == {"a": 1}


@pytest.mark.parametrize(
    ("seconds", "words"), [(9.9, "9 s"), (125, "2 min 05 s"), (4200, "1 h 10 min")]
)
def test_durations_read_as_people_say_them(seconds, words):
    assert elapsed(seconds) == words
