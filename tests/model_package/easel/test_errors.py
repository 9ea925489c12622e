import json

import pytest

from easel import errors
from easel.errors import (
    EaselError,
    GenerationFailed,
    InvalidRequest,
    ModelUnusable,
    ModerationBlocked,
    OutOfMemory,
    SettingInvalid,
    guard,
)
from generation import GenerationRequest


def fail(error):
    raise error


def test_a_result_passes_through():
    assert guard(lambda a, b: a + b, 1, 2) == 3


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidRequest("no"), 400, "invalid_request"),
        (ModerationBlocked("no"), 422, "moderation_blocked"),
        (OutOfMemory("no"), 507, "out_of_memory"),
        (GenerationFailed("no"), 500, "generation_failed"),
        (ModelUnusable("no"), 500, "model_unusable"),
        (SettingInvalid("no"), 500, "model_unusable"),
    ],
)
def test_an_error_knows_its_status_and_its_code(error, status, code):
    caught = guard(fail, error)
    assert caught is error
    assert (caught.status, caught.to_dict()["error"]["code"]) == (status, code)


def test_the_tree_at_the_top_of_the_module_is_the_real_one():
    def names(above):
        below = [names(child) for child in above.__subclasses__()]
        return {above.__name__}.union(*below)

    for name in names(EaselError):
        assert f" {name} " in errors.__doc__ or f" {name}\n" in errors.__doc__


def test_a_field_of_the_contract_is_named():
    caught = guard(GenerationRequest.from_dict, {"prompt": "a", "steps": 0})
    assert caught.to_dict() == {
        "error": {
            "code": "invalid_request",
            "message": "steps: must be a whole number from 1 to 100",
            "field": "steps",
        }
    }


def test_an_unforeseen_error_is_logged_and_not_returned(capsys):
    caught = guard(fail, KeyError("/opt/ml/model/secret"))
    assert (caught.status, caught.code) == (500, "generation_failed")
    assert "secret" not in json.dumps(caught.to_dict())
    (line,) = capsys.readouterr().out.splitlines()
    logged = json.loads(line)
    assert logged["event"] == "generation_failed"
    assert "KeyError" in logged["traceback"]
    assert "secret" in logged["error"]


def test_why_a_model_is_unusable_is_logged_and_not_returned(capsys):
    caught = guard(fail, ModelUnusable("no model in /opt/ml/model"))
    assert "/opt" not in json.dumps(caught.to_dict())
    assert json.loads(capsys.readouterr().out)["error"] == "no model in /opt/ml/model"


def test_what_stops_the_process_is_not_held_up():
    with pytest.raises(KeyboardInterrupt):
        guard(fail, KeyboardInterrupt())
