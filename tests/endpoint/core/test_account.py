"""The environment of programs that are to be nobody else in AWS than the scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint.core.account import Account, open_session
from tests.endpoint.doubles import InstantClock

IDENTITY = """
import boto3, json
session = boto3.Session()
credentials = session.get_credentials().get_frozen_credentials()
print(json.dumps([*credentials[:3], session.region_name]))
"""
# What names credentials, a profile or a region to botocore.
FOREIGN = {
    "AWS_ACCESS_KEY_ID": "ENVKEY",
    "AWS_SECRET_ACCESS_KEY": "other",
    "AWS_SESSION_TOKEN": "other",
    "AWS_SECURITY_TOKEN": "other",
    "AWS_PROFILE": "third",
    "AWS_DEFAULT_PROFILE": "third",
    "AWS_ROLE_ARN": "arn:aws:iam::210987654321:role/other",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
}
CREDENTIALS = """
[default]
aws_access_key_id = DEFAULTKEY
aws_secret_access_key = d
[mine]
aws_access_key_id = MYKEY
aws_secret_access_key = m
[lent]
aws_access_key_id = LENTKEY
aws_secret_access_key = l
aws_session_token = token
[third]
aws_access_key_id = THIRDKEY
aws_secret_access_key = t
"""


@pytest.fixture
def environment(tmp_path, monkeypatch):
    (tmp_path / "credentials").write_text(CREDENTIALS, "utf-8")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    return monkeypatch


def child(profile):
    return Account(open_session(profile, "us-east-1"), InstantClock()).child_environment()


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("mine", ["MYKEY", "m", None, "us-east-1"]),
        ("lent", ["LENTKEY", "l", "token", "us-east-1"]),
        ("default", ["DEFAULTKEY", "d", None, "us-east-1"]),
        (None, ["ENVKEY", "other", "other", "us-east-1"]),
    ],
)
def test_a_child_has_the_credentials_of_the_scripts(environment, profile, expected):
    for name, value in FOREIGN.items():
        if profile or "PROFILE" not in name:
            environment.setenv(name, value)
    done = subprocess.run(
        [sys.executable, "-c", IDENTITY],
        env=child(profile),
        check=True,
        capture_output=True,
        text=True,
    )

    assert json.loads(done.stdout) == expected


def test_a_child_finds_aws_where_the_scripts_do(environment):
    kept = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:2",
        "AWS_CA_BUNDLE": "/etc/ca.pem",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "PATH": os.environ["PATH"],
    }
    for name, value in kept.items():
        environment.setenv(name, value)

    assert kept.items() <= child("mine").items()


@given(st.sets(st.sampled_from(sorted(FOREIGN))))
def test_no_variable_of_anybody_else_reaches_a_child(names):
    with pytest.MonkeyPatch.context() as patch:
        session = open_session(None, "us-east-1")
        session._session.set_credentials("MYKEY", "m")
        for name in names:
            patch.setenv(name, FOREIGN[name])
        passed = Account(session, InstantClock()).child_environment()

    assert not {passed.get(name) for name in FOREIGN} & {*FOREIGN.values()}
    assert passed["AWS_ACCESS_KEY_ID"] == "MYKEY"
