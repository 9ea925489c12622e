from __future__ import annotations

import io
import json

import pytest

from endpoint.core.console import Console, elapsed
from endpoint.core.problems import Declined
from tests.endpoint.doubles import Terminal
from tests.endpoint.world import empty_account


@pytest.fixture
def clock():
    with empty_account() as world:
        return world


def test_a_long_wait_prints_a_line_a_minute_without_a_terminal(clock):
    output = io.StringIO()
    console = Console(clock, progress=output)
    for _ in range(30):
        console.waiting("creating", 0.0)
        clock.sleep(5)
    lines = output.getvalue().splitlines()
    assert lines == ["  creating (0 s)", "  creating (1 min 00 s)", "  creating (2 min 00 s)"]


def test_a_new_phase_is_printed_at_once(clock):
    output = io.StringIO()
    console = Console(clock, progress=output)
    console.waiting("creating", 0.0)
    console.waiting("in service", 0.0)
    assert len(output.getvalue().splitlines()) == 2


def test_on_a_terminal_one_line_counts_the_seconds(clock):
    output = Terminal()
    console = Console(clock, progress=output)
    for _ in range(3):
        console.waiting("creating", 0.0)
        clock.sleep(1)
    console.say("done")
    assert output.getvalue().count("\n") == 2
    assert "(2 s)" in output.getvalue()


def test_yes_confirms_every_question(clock):
    Console(clock, yes=True).ask("Sure?")


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("YES\n", True), ("\n", False),
                                                ("n\n", False), ("", False)])  # fmt: skip
def test_only_a_clear_yes_confirms(clock, monkeypatch, answer, agreed):
    monkeypatch.setattr("sys.stdin", Terminal(answer))
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
def test_durations_are_in_words(seconds, words):
    assert elapsed(seconds) == words


def test_a_drawing_is_drawn_over_the_one_before_it_on_a_terminal(clock):
    terminal = Terminal()
    console = Console(clock, progress=terminal)
    console.draw("a\nb")
    console.waiting("training", 0)
    console.draw("c\nd")

    assert "\033[3A\033[J" in terminal.getvalue()
    console.say("samples")
    before = terminal.getvalue()
    console.draw("e")
    assert "\033[" not in terminal.getvalue().removeprefix(before)


def test_a_drawing_is_plain_lines_in_a_log(clock):
    log = io.StringIO()
    console = Console(clock, progress=log)
    console.draw("a\nb")
    console.draw("c")

    assert log.getvalue() == "a\nb\nc\n"
