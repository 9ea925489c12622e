"""A proof in the emulated account, its cost limit, and its end whatever fails."""

from __future__ import annotations

import base64
import json

import pytest

from endpoint.catalogue.beliefs import beliefs
from endpoint.commands import prove
from endpoint.proof import checks as proof_checks
from endpoint.proof.http import Answer
from endpoint.provision import checks, gateway, gateway_project
from tests.endpoint.doubles import PNG, create_gateway
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, contents, empty_account


class Front:
    """The public URL: answers as the gateway does; `fail` is called before each answer."""

    def __init__(self, fail=lambda _path: None):
        self.health = 0
        self.keys = set()
        self._fail = fail

    def __call__(self, method, url, headers, body=None):
        host, _, path = url.partition("://")[2].partition("/api/")
        self._fail(path)
        if ".s3." in host:
            return Answer(200)
        if path == "health":
            self.health += 1
            return Answer(429 if self.health > 30 else 200)
        key = headers.get("x-api-key")
        if key is None:
            return Answer(401, {"x-amzn-remapped-www-authenticate": "Bearer"})
        self.keys.add(key)
        return self._answer(path)

    def _answer(self, path):
        encoded = base64.b64encode(PNG).decode()
        answers = {
            "options": Answer(200),
            "jobs": Answer(202, body=b'{"id": "1"}'),
            "jobs/1/image": Answer(200, body=PNG),
            f"jobs/{'0' * 64}": Answer(404),
            "v1/images/generations": _json({"data": [{"b64_json": encoded}]}),
            "sdapi/v1/txt2img": _json({"images": [encoded]}),
            "no/such/path": Answer(404, body=b"The base URL is ..."),
            "inference/a%2Fb?seed=no": Answer(400),
        }
        if path.startswith("inference/a%20lighthouse?model=sdxl"):
            return Answer(303, {"location": "/api/jobs/1/image?hop=1"})
        return answers.get(path.partition("?hop")[0], Answer(200, body=PNG))


def _json(data):
    return Answer(200, body=json.dumps(data).encode())


@pytest.fixture
def world(serving_code, monkeypatch, tmp_path):
    """An account in which chalice's part is a call or two, since chalice needs a server."""
    monkeypatch.setattr(gateway_project, "PROJECTS", tmp_path / ".easel")
    monkeypatch.setattr(checks, "ask_the_hub", lambda _model: {"gated": False})
    # A World has no autoscaler; the test with a real gateway wakes an endpoint.
    monkeypatch.setitem(proof_checks.CHECKS, "wake_from_zero", _awake)
    with empty_account() as world:
        monkeypatch.setattr(gateway, "_run_chalice", lambda context, _: _chalice(world, context))
        yield world


def _awake(_subject):
    return proof_checks.Observation(True, "an instance started", {"seconds": 1})


def _chalice(world, context):
    if context.gateway.function(context.deployment.function) is None:
        role = context.stacks.outputs(context.deployment.stack)["GatewayRoleArn"]
        create_gateway(world, role, name="easel-proof", Tags={"easel": "proof"})


def run(world, tmp_path, *more, front=None):
    """Run a proof; return its exit code, its record, and the page."""
    output = tmp_path / "proof"
    argv = ["--yes", "--image", IMAGE, "--output", str(output), *more]
    code = prove.main(argv, asking=front or Front(), session=world.session, clock=world)
    if not output.exists():
        return code, None, None
    return code, json.loads((output / "proof.json").read_text()), (output / "proof.md").read_text()


def test_a_proof_uses_everything_and_leaves_nothing(world, tmp_path, capsys):
    code, proof, page = run(world, tmp_path)

    assert contents(world) == []
    errors = {step["name"]: step["error"] for step in proof["steps"] if step["error"]}
    verdicts = {each["id"]: each["verdict"] for each in proof["beliefs"]}
    assert errors == {}
    checked = {each.id for each in beliefs() if each.check}
    assert {name for name, verdict in verdicts.items() if verdict != "not checked"} <= checked
    assert (proof["left"], proof["region"]) == ([], REGION)
    assert 0 < proof["usd_at_most"] < 3
    # A World has no log of a real Lambda.
    assert {name for name in checked if verdicts[name] != "held"} <= {
        "read-only-task",
        "async-failure",
    }
    assert "Everything is deleted" in capsys.readouterr().out
    assert code in {0, 1}
    for text in (page, json.dumps(proof)):
        assert ACCOUNT not in text
        assert "easel_" not in text
