"""Keys, the secret and limits: into the gateway's settings, and kept by the next deployment."""

from __future__ import annotations

import argparse
import json
import time

import pytest

from chalicelib.auth.authenticate import find_key
from chalicelib.errors import Unauthorized
from chalicelib.settings import Settings
from endpoint.cli.options import AccessOptions, add_access_options
from endpoint.cli.options import read as read_options
from endpoint.commands import create_key
from endpoint.core.problems import ScriptError
from endpoint.provision.gateway.gateway_access import access_of


def access(*argv, before=None):
    parser = argparse.ArgumentParser()
    add_access_options(parser)
    options = read_options(AccessOptions, parser.parse_args(argv))
    return access_of(options, before or {}, "easel-main-bucket")


def read(variables):
    """Read variables as the gateway does."""
    models = {"EASEL_MODELS": '{"sd": {"endpoint": "e"}}'}
    return Settings.from_environment({**models, **variables}).protection


@pytest.fixture
def keys(tmp_path, capsys):
    """A file with a key for ada, and the key."""
    file = tmp_path / "keys.json"
    assert create_key.main(["ada", "--file", str(file), "--per-minute", "5"]) == 0
    return file, capsys.readouterr().out.strip()


def test_a_first_deployment_is_open_with_a_limit_and_a_filter():
    made = access()
    protection = read(made.variables)

    assert (protection.keys, made.smoke_key) == ((), None)
    assert (protection.per_minute, protection.filter_mode) == (20, "refuse")
    assert protection.accounts == ("easel-main-bucket", "links/")
    assert len(protection.secrets) == 1


def test_the_gateway_knows_the_key_that_was_made(keys):
    file, key = keys
    protection = read(access("--keys", str(file)).variables)
    key_found = find_key(protection.keys, key, time.time())

    assert (key_found.name, key_found.per_minute) == ("ada", 5)
    assert key not in file.read_text()
    with pytest.raises(Unauthorized):
        find_key(protection.keys, file.read_text(), time.time())


def test_the_smoke_tests_key_ends_and_is_replaced(keys):
    first = access("--keys", str(keys[0]))
    again = access(before=first.variables)
    protection = read(again.variables)

    assert [key.name for key in protection.keys] == ["ada", "easel-smoke-test"]
    assert find_key(protection.keys, again.smoke_key, time.time()).name == "easel-smoke-test"
    with pytest.raises(Unauthorized):
        find_key(protection.keys, first.smoke_key, time.time())
    with pytest.raises(Unauthorized):
        find_key(protection.keys, again.smoke_key, time.time() + 3_601)


def test_a_setting_without_an_option_stays_as_it_is_deployed(keys):
    first = access(
        *("--keys", str(keys[0]), "--prompt-filter", "warn", "--pictures-per-minute", "0"),
        *("--cors-origins", "https://a.example", "--prompt-filter-words", "foo,-bar"),
    ).variables
    again = access(before=first).variables

    assert {**first, "EASEL_API_KEYS": ""} == {**again, "EASEL_API_KEYS": ""}
    assert read(again).filter_mode == "warn"
    assert read(again).per_minute is None
    assert read(again).filter_words == ("foo", "-bar")


def test_a_new_secret_keeps_the_previous_one_and_drops_the_one_before():
    one = access().variables
    two = access("--new-secret", before=one).variables
    three = access("--new-secret", before=two).variables

    assert read(two).secrets[1:] == read(one).secrets
    assert read(three).secrets[1:] == read(two).secrets[:1]
    assert len(set(read(one).secrets + read(two).secrets + read(three).secrets)) == 3


def test_keys_are_required_until_open_is_passed(keys):
    first = access("--keys", str(keys[0])).variables

    assert read(access("--open", before=first).variables).keys == ()


def test_open_is_only_what_says_so(keys, tmp_path):
    first = access("--keys", str(keys[0])).variables
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    smoke_alone = json.dumps(json.loads(first["EASEL_API_KEYS"])[1:])
    for argv, before in (
        (["--keys", str(empty)], first),
        (["--keys", str(empty)], {}),
        (["--keys", str(keys[0]), "--open"], first),
        ([], {**first, "EASEL_API_KEYS": smoke_alone}),
        ([], {**first, "EASEL_API_KEYS": "damaged"}),
    ):
        with pytest.raises(ScriptError) as refused:
            access(*argv, before=before)
        assert "--open" in str(refused.value) + refused.value.advice, argv


ENTRY = {"name": "ada", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([{**ENTRY, "per_minute": 0}], "from 1 to 1,000"),
        ([{**ENTRY, "per_minute": -5}], "from 1 to 1,000"),
        ([{**ENTRY, "per_minute": "10"}], "a whole number"),
        ([{**ENTRY, "per_minute": 5000}], "from 1 to 1,000"),
        ([{**ENTRY, "per_minute": 1.5}], "a whole number"),
        ([{**ENTRY, "expires": "tomorrow"}], "tomorrow"),
        ([{**ENTRY, "expires": 1893456000}], "is no date"),
        ([{**ENTRY, "expires": ""}], "is no date"),
        ([{**ENTRY, "name": "a b"}], "a name of letters"),
        ([{**ENTRY, "name": ["ada"]}], "text"),
        ([{**ENTRY, "note": "x"}], "nothing unknown"),
        ([ENTRY, ENTRY], "one name"),
        ([{**ENTRY, "name": "easel-smoke-test"}], "deploy's own key"),
        (ENTRY, "not a list"),
        ([[]], "cannot be read"),
        (None, "not a list"),
    ],
)
def test_keys_that_the_gateway_cannot_read_are_refused_by_their_file(tmp_path, entries, reason):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(entries))

    with pytest.raises(ScriptError, match=rf"keys\.json.*{reason}"):
        access("--keys", str(file))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "﻿[]",
        "",
        "{}",
        "[7]",
        '[{"name": "ada", "key": "easel_x"}]',
        '[{"name": "a", "sha256": "x"}]',
    ],
)
def test_a_file_without_keys_is_refused(tmp_path, text):
    (tmp_path / "keys.json").write_text(text)

    with pytest.raises(ScriptError, match=r"keys\.json"):
        access("--keys", str(tmp_path / "keys.json"))
    with pytest.raises(ScriptError, match="cannot be read"):
        access("--keys", str(tmp_path / "none.json"))


def test_a_replaced_key_is_no_longer_valid(keys):
    file, key = keys
    assert create_key.main(["ada", "--file", str(file), "--replace"]) == 0

    protection = read(access("--keys", str(file)).variables)
    with pytest.raises(Unauthorized):
        find_key(protection.keys, key, time.time())
