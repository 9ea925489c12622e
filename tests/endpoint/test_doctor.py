from __future__ import annotations

import json

import pytest

from endpoint import doctor
from endpoint.emulator.moto_ import service_quotas
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, World, contents


@pytest.fixture(autouse=True)
def _hub(monkeypatch):
    monkeypatch.setattr(doctor, "ask_the_hub", lambda _model: {"gated": False})


def checks(world: World, capsys, *more: str, code: int = 0) -> dict[str, list[dict]]:
    assert world.run(doctor.main, "--image", IMAGE, "--json", *more) == code
    found: dict[str, list[dict]] = {}
    for check in json.loads(capsys.readouterr().out)["checks"]:
        found.setdefault(check["subject"], []).append(check)
    return found


def test_a_good_account_is_told_what_it_will_cost_and_changes_nothing(world, capsys):
    found = checks(world, capsys)
    assert {check["state"] for each in found.values() for check in each} == {"good"}
    assert "USD per hour" in found["cost"][0]["finding"]
    assert "per month" in found["cost"][0]["finding"]
    assert contents(world) == []
    assert not any("Create" in call for call in world.calls)


def test_a_quota_of_zero_comes_with_the_call_that_raises_it(world, capsys, monkeypatch):
    monkeypatch.setattr(service_quotas, "QUOTAS", {"ml.g5.xlarge": 0.0})
    found = checks(world, capsys, "--instance-type", "ml.g5.xlarge", code=1)
    (quota,) = found["quota"]
    assert quota["state"] == "bad"
    assert "aws service-quotas request-service-quota-increase" in quota["advice"]
    assert f"--region {REGION}" in quota["advice"]


def test_one_type_with_a_quota_is_enough(world, capsys, monkeypatch):
    monkeypatch.setattr(service_quotas, "QUOTAS", {"ml.g4dn.xlarge": 0.0})
    states = [check["state"] for check in checks(world, capsys)["quota"]]
    assert sorted(states) == ["good", "good", "note"]


def test_missing_rights_are_listed(world, capsys):
    world.denied = {"iam:PassRole", "sagemaker:CreateModel"}
    # moto's caller is root, whom IAM does not simulate.
    caller = {"Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "Account": ACCOUNT, "UserId": "1"}
    world._before_get_caller_identity = lambda _: _answered(caller)
    found = checks(world, capsys, code=1)
    assert found["rights"][0]["finding"] == "not allowed: iam:PassRole, sagemaker:CreateModel"


def test_the_role_behind_a_session_is_asked_about():
    session = "arn:aws:sts::123456789012:assumed-role/admin/me@example.com"
    assert doctor._policy_source(session) == "arn:aws:iam::123456789012:role/admin"
    user = "arn:aws:iam::123456789012:user/me"
    assert doctor._policy_source(user) == user


def _answered(parsed):
    from tests.endpoint.world import _answer

    return _answer(parsed)


def test_an_image_that_does_not_exist_is_bad(world, capsys):
    world.images = set()
    assert checks(world, capsys, code=1)["image"][0]["state"] == "bad"


def test_a_bucket_of_somebody_elses_is_bad(world, capsys):
    world.fail("HeadBucket", "403", status=403)
    assert checks(world, capsys, code=1)["bucket"][0]["state"] == "bad"


def test_a_gated_model_has_to_be_uploaded(world, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "ask_the_hub", lambda _model: {"gated": True})
    found = checks(world, capsys, "--model", "some/gated", code=1)
    assert "--weights s3" in found["model"][0]["advice"]
    found = checks(world, capsys, "--model", "some/gated", "--weights", "s3")
    assert found["model"][0]["state"] == "good"


def test_a_hub_that_does_not_answer_stops_nobody(world, capsys, monkeypatch):
    def no_network(_model):
        raise OSError("no route to host")

    monkeypatch.setattr(doctor, "ask_the_hub", no_network)
    found = checks(world, capsys)
    assert found["model"][0]["state"] == "note"
    assert "no route to host" in found["model"][0]["advice"]


def test_expired_credentials_end_the_examination(world, capsys):
    world.fail("GetCallerIdentity", "ExpiredToken", "The security token is expired")
    assert world.run(doctor.main, "--image", IMAGE) == 1
    assert "aws sso login" in capsys.readouterr().err
