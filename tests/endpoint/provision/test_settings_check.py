"""What the scripts let through is what the readers of the gateway and the container can read."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chalicelib.settings import BadSetting, Settings
from endpoint.cli.options import AccessOptions
from endpoint.core.problems import BadArgument
from endpoint.provision.gateway.gateway_access import access_of
from endpoint.provision.settings_check import check_container, check_gateway
from tests.conftest import ALL

MODELS = {"EASEL_MODELS": '{"sd": {"endpoint": "e"}}'}
FEW = settings(
    max_examples=40 if ALL else 15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# Close to what is right, so that both verdicts are common.
_ORIGINS = st.lists(
    st.from_regex(r"(https?://)?[a-zA-Z0-9.-]{1,9}(:[0-9]{1,5})?/{0,2}|\*", fullmatch=True)
    | st.text(max_size=5),
    max_size=3,
).map(",".join)
_WORDS = st.lists(st.text(max_size=6) | st.sampled_from(["-foo", "*", "-", "é"]), max_size=3)
_ENTRY = st.fixed_dictionaries(
    {"name": st.sampled_from(["ada", "bob", "a b", ""]) | st.text(max_size=3)},
    optional={
        "sha256": st.sampled_from(["0" * 64, "A" * 64, "f" * 63]),
        "per_minute": st.integers(-2, 1_002) | st.none() | st.booleans() | st.text(max_size=2),
        "expires": st.datetimes().map(str) | st.text(max_size=4) | st.none() | st.integers(),
    },
)


def verdict(variables):
    """Return the variable that the gateway itself cannot read, or None."""
    try:
        Settings.from_environment(variables)
    except BadSetting as error:
        return error.variable
    return None


def checked(variables):
    """Return what the check of the scripts says, or None."""
    try:
        check_gateway(variables)
    except BadArgument as error:
        return str(error)
    return None


@given(
    origins=st.none() | _ORIGINS,
    words=st.none() | _WORDS.map(",".join),
    mode=st.sampled_from(["off", "warn", "refuse"]),
    limit=st.none() | st.integers(-2, 1_002),
)
@example(origins="https://a.example/", words="", mode="off", limit=0)
@example(origins="a.example", words=None, mode="off", limit=None)
@example(origins=None, words="!!!", mode="warn", limit=None)
@FEW
def test_options_pass_exactly_where_the_gateway_reads_them(origins, words, mode, limit):
    options = AccessOptions(None, False, False, limit, mode, words, origins, None)
    variables = {**MODELS, **access_of(options, {}, "bucket").variables}
    message, variable = checked(variables), verdict(variables)
    if message is not None and "no environment variable can hold" in message:
        return
    assert (message is None) == (variable is None), (message, variable)
    if variable is not None:
        assert message.startswith(f"{variable} (--")


@given(entries=st.lists(_ENTRY, max_size=2))
@FEW
def test_a_file_of_keys_passes_exactly_where_the_gateway_reads_it(tmp_path, entries):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(entries))
    variables = {**MODELS, "EASEL_SECRET": "s" * 32, "EASEL_API_KEYS": json.dumps(entries)}
    options = AccessOptions(file, False, False, None, None, None, None, None)
    if entries and verdict(variables) is None:
        access_of(options, {}, "bucket")
        return
    with pytest.raises(BadArgument, match=r"keys\.json"):
        access_of(options, {}, "bucket")


@pytest.mark.parametrize("value", ["a\0b", "\udcff"])
def test_a_character_that_no_variable_can_hold_is_named_by_its_option(value):
    with pytest.raises(BadArgument, match="--cors-origins.*character"):
        check_gateway({**MODELS, "EASEL_CORS_ORIGINS": value})


@pytest.mark.parametrize(
    "variables",
    [
        {"EASEL_DTYPE": "fp17"},
        {"EASEL_DEFAULTS": '{"steps": 0}'},
        {"EASEL_DEFAULTS": "[]"},
        {"EASEL_DEFAULTS": "{"},
        {"EASEL_LOG_PROMPTS": "maybe"},
    ],
)
def test_a_containers_variables_are_read_by_the_model_package(variables):
    with pytest.raises(BadArgument, match=next(iter(variables))):
        check_container(variables)
