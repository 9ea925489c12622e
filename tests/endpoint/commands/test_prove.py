"""A proof in the emulated account, its cost limit, and its end whatever fails."""

from __future__ import annotations

import base64
import json
import os
import signal

import pytest

from endpoint.catalogue.beliefs import beliefs
from endpoint.commands import prove
from endpoint.proof import checks as proof_checks
from endpoint.proof.http import Answer
from endpoint.provision import checks
from endpoint.provision.gateway import gateway, gateway_project
from tests.endpoint.doubles import PNG, create_gateway
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, contents, empty_account


class Front:
    """The public URL: answers as the gateway does; `fail` is called before each answer."""

    def __init__(self, fail=lambda _path: None):
        self.refused = 0
        self.keys = set()
        self._fail = fail

    def __call__(self, method, url, headers, body=None):
        host, _, path = url.partition("://")[2].partition("/api/")
        self._fail(path)
        if ".s3." in host:
            return Answer(200)
        if path == "inference/default?seed=no":
            self.refused += 1
            return Answer(429 if self.refused > 1 else 400)
        if path == "health":
            return Answer(200)
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
            f"jobs/sdxl-{'0' * 32}": Answer(404),
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
        "cold-start",
        "async-failure",
    }
    assert "Everything is deleted" in capsys.readouterr().out
    assert code in {0, 1}
    for text in (page, json.dumps(proof)):
        assert ACCOUNT not in text
        assert "easel_" not in text


def test_the_plan_is_shown_and_asked_before_anything_is_made(world, tmp_path, capsys):
    argv = ["--image", IMAGE, "--output", str(tmp_path / "proof")]
    assert prove.main(argv, asking=Front(), session=world.session, clock=world) == 1

    said = capsys.readouterr().err
    assert "costs at most 3.00 USD" in said
    assert "Begin? Not a terminal." in said
    assert contents(world) == []
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("most", ["0", "-1", "nan", "inf", "0.7"])
def test_a_limit_that_allows_nothing_is_refused(world, tmp_path, capsys, most):
    assert run(world, tmp_path, "--most", most)[0] == 1
    assert "--most must be a number above 0." in capsys.readouterr().err
    assert contents(world) == []


def test_an_existing_deployment_is_left_alone(world, tmp_path, capsys):
    world.client("logs").create_log_group(
        logGroupName="/aws/sagemaker/Endpoints/easel-proof-sd", tags={"easel": "proof"}
    )
    before = contents(world)

    assert run(world, tmp_path)[0] == 1
    assert "destroy --name proof" in capsys.readouterr().err
    assert contents(world) == before


def test_a_proof_ends_itself_before_it_costs_more_than_allowed(world, tmp_path, capsys):
    def slow(path):
        if path.startswith("inference"):
            world.sleep(500)

    code, proof, _ = run(world, tmp_path, front=Front(slow))

    assert (code, contents(world)) == (1, [])
    assert proof["usd_at_most"] <= 3
    assert "Going on could cost more than 3 USD." in capsys.readouterr().out


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_proof_deletes_everything(world, tmp_path, capsys, stop):
    def interrupt(path):
        if path.startswith("v1/"):
            os.kill(os.getpid(), stop)

    code, proof, _ = run(world, tmp_path, front=Front(interrupt))

    assert (code, contents(world), proof["left"]) == (1, [], [])
    assert "It ended early: interrupted" in capsys.readouterr().out


def test_a_proof_asks_again_when_it_was_told_to(world, tmp_path):
    front, busy = Front(), []

    def ask(method, url, headers, body=None):
        answer = front(method, url, headers, body)
        path = url.partition("/api/")[2].partition("?")[0]
        if path not in {"health", "options", ""} and answer.status in {200, 202, 303}:
            busy.append(path)
            if busy.count(path) == 1:
                return Answer(429, {"retry-after": "2"})
        return answer

    _, proof, _ = run(world, tmp_path, front=ask)

    assert {step["name"]: step["error"] for step in proof["steps"] if step["error"]} == {}
    assert contents(world) == []


def test_a_gateway_that_does_not_answer_fails_the_proof_and_everything_is_deleted(world, tmp_path):
    def broken(path):
        if not path.startswith("health"):
            raise OSError("HTTP Error 502: Bad Gateway")

    code, proof, _ = run(world, tmp_path, front=Front(broken))

    assert (code, contents(world)) == (1, [])
    assert "502" in next(step["error"] for step in proof["steps"] if step["error"])


def test_what_does_not_hold_is_recorded_and_the_proof_goes_on(world, tmp_path, monkeypatch):
    def refuted(_subject):
        return proof_checks.Observation(False, "AWS did something else | entirely")

    monkeypatch.setitem(proof_checks.CHECKS, "unknown_path", refuted)
    monkeypatch.setitem(proof_checks.CHECKS, "binary_body", lambda _subject: {}["no such key"])
    code, proof, page = run(world, tmp_path)
    verdicts = {each["id"]: each["verdict"] for each in proof["beliefs"]}

    assert (code, contents(world)) == (1, [])
    assert verdicts["unknown-path"] == "did not hold"
    assert verdicts["binary"] == "not checked"
    assert verdicts["throttle"] == "held"
    assert "AWS did something else \\| entirely" in page


def calls_of_a_proof(world, tmp_path):
    """Return the numbers of a proof's calls that differ: all changes, and one of each reading."""
    run(world, tmp_path)
    return sorted({*world.changes, *map(world.calls.index, set(world.calls))})


# All of them take minutes.
STRIDE = 1 if os.environ.get("ALL_TESTS") else 25


@pytest.mark.slow
def test_whichever_call_fails_once_a_proof_leaves_nothing(world, tmp_path, capsys):
    calls = calls_of_a_proof(world, tmp_path)
    assert len(calls) > 100
    for call in calls[::STRIDE]:
        world.fail_at(call)
        first = len(world.calls)
        run(world, tmp_path / str(call))
        failed = world.calls[first + call] if first + call < len(world.calls) else "none"
        assert contents(world) == [], f"call {call}: {failed}\n{capsys.readouterr().err[-2000:]}"
        capsys.readouterr()
