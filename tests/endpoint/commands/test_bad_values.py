"""A value that an option cannot have is a usage error, in every command that has the option."""

from __future__ import annotations

import argparse

from endpoint.__main__ import COMMANDS
from endpoint.provision import checks
from tests.endpoint.world import IMAGE, contents

# What each option cannot be. Several commands have most of them.
BAD = {
    "--accepts": ["colour", ""],
    "--also": ["no such model", ""],
    "--backend": ["nonsense", ""],
    "--budget": ["-5", "nan"],
    "--burst": ["0", "-1", "many"],
    "--change-set": ["nonsense", ""],
    "--days": ["0", "many"],
    "--from": ["yesterday"],
    "--to": ["tomorrow"],
    "--usd-per-month": ["-5", "nan"],
    "--policy": ["nonsense"],
    "--concurrency": ["-1", "many"],
    "--cors-origins": ["x.org", "https://x.org/a"],
    "--email": ["notmail", "a@b", "a b@c.org", "@c.org"],
    "--endpoint": ["no/name", ""],
    "--expires": ["yesterday", "2001-01-01"],
    "--guidance-scale": ["nan", "much"],
    "--height": ["tall"],
    "--image": ["nonsense", "no/uri:1", ""],
    "--inference-ami": [""],
    "--instance": ["trn1", ""],
    "--instance-type": ["banana", "g5.xlarge", ""],
    "--keys": ["missing.json"],
    "--lease": ["soon", "0h", ""],
    "--local": ["", "ftp://x"],
    "--lora": ["a/b", ""],
    "--model": [""],
    "--monthly-cap": ["-5", "nan"],
    "--most": ["0", "nan", "inf", "much"],
    "--most-instances": ["0", "-1"],
    "--name": ["Main", "a-b", "x" * 21, ""],
    "--per-day": ["nan", "0", "-1"],
    "--per-minute": ["-1", "0"],
    "--pictures-per-minute": ["-5", "5000"],
    "--private-network": ["vpn", ""],
    "--profile": [""],
    "--prompt-filter": ["maybe"],
    "--prompt-filter-words": ["*"],
    "--quantise": ["nonsense", ""],
    "--region": [""],
    "--requests-per-second": ["nan", "0", "-1"],
    "--revision": [""],
    "--seconds": ["nan", "0", "-1"],
    "--seed": ["red"],
    "--size": ["big", "512", "0x0", ""],
    "--stack-role": ["nonsense", ""],
    "--steps": ["many"],
    "--stop": ["no/name", ""],
    "--training-image": ["nonsense", "no/uri:1", ""],
    "--trainings-per-month": ["0", "many"],
    "--weights": ["borrow"],
    "--width": ["wide"],
    "--without-endpoint": ["no/name", ""],
    "who": ["", "a b"],
}
# Of a model that a command looks up in the catalogue.
UNKNOWN_MODEL = "no such model"
CATALOGUE = {"create", "deploy", "doctor", "estimate"}
# Any text is one, and any path.
FREE = {"prompt", "file", "--negative-prompt", "--out", "--output", "--file", "--label", "--commit"}
_CHANGE_SET = "arn:aws:cloudformation:us-east-1:123456789012:changeSet/plan/1"
NEEDED = {
    "use": ["a cat"],
    "batch": ["prompts.txt", "--out", "pictures"],
    "create-key": ["ada"],
    "deploy": ["--open"],
    "plan": ["--open"],
    "apply": ["--open", "--change-set", _CHANGE_SET],
}


def valued(command):
    """Yield the arguments of a command that have a value."""
    for action in COMMANDS[command].parser()._actions:
        if action.nargs != 0 and not isinstance(action, argparse._HelpAction):
            yield (action.option_strings or [action.dest])[-1]


CASES = [
    (command, option, value)
    for command in COMMANDS
    if command != "train"  # its --name is an adapter's: test_train.py
    for option in valued(command)
    if option not in FREE
    for value in [*BAD[option], *[UNKNOWN_MODEL] * (option == "--model" and command in CATALOGUE)]
]


def run(world, command, argv):
    """Run a command as from the command line; return its exit code."""
    main = COMMANDS[command].main
    known = {"session": world.session, "clock": world}
    try:
        return main(argv, **(known if command not in {"create-key", "estimate"} else {}))
    except SystemExit as ended:
        return ended.code


def test_a_value_that_an_option_cannot_have_is_a_usage_error(world, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(checks, "ask_the_hub", lambda _model: {"gated": False})
    monkeypatch.chdir(tmp_path)
    wrong = []
    for command, option, value in CASES:
        needed = NEEDED.get(command, [])
        given = [value] if not option.startswith("-") else [*needed, option, value]
        if option == "--budget":
            given += ["--email", "me@example.com"]
        if "--image" in valued(command) and option != "--image":
            given += ["--image", IMAGE]
        if "--yes" not in given and command not in {"create-key", "estimate"}:
            given.append("--yes")
        code = run(world, command, given)
        said = capsys.readouterr()
        if code != 2 or (
            option.startswith("-") and option not in said.err and value not in said.err
        ):
            wrong.append((command, option, value, code, said.err[-200:]))
    assert wrong == []
    assert contents(world) == []
