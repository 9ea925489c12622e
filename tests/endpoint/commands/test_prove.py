"""A proof in the emulated account, its cost limit, and its end whatever fails."""

from __future__ import annotations

import base64
import json
import os
import signal

import pytest

from endpoint.catalogue.beliefs import beliefs
from endpoint.commands import prove
from endpoint.core.http import Answer
from endpoint.emulator.moto_ import sagemaker, service_quotas
from endpoint.emulator.moto_.stacks import cloudformation
from endpoint.emulator.sagemaker import lifecycle
from endpoint.proof import checks as proof_checks
from endpoint.proof import probe
from endpoint.provision import checks
from endpoint.provision.gateway import gateway, gateway_project
from tests.endpoint.doubles import PNG, create_gateway
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, World, contents, empty_account


class Front:
    """The public URL: answers as the gateway does; `fail` is called before each answer.

    With a world, it also answers as the probe does once the function has its code.
    """

    world: World | None = None
    # As AWS does: without free concurrency, after its timeout, and about the task folder.
    throttled, late = Answer(500), Answer(504)
    another = Answer(403)
    # What a stored picture costs, and what all of them have cost.
    stored, used = "0.000000", 0.01

    def __init__(self, fail=lambda _path: None):
        self.folder = {"refused": "Read-only file system", "bytecode": False}
        self.refused = 0
        self.keys, self.painted = set(), set()
        self._fail = fail

    def __call__(self, method, url, headers, body=None):
        host, _, path = url.partition("://")[2].partition("/api/")
        self._fail(path)
        if ".s3." in host:
            return self._store(method, body)
        if path.startswith("health") and self.world is not None:
            return self._health(path, self.world)
        if path == "inference/default?seed=no":
            self.refused += 1
            return Answer(429 if self.refused > 1 else 400)
        key = headers.get("x-api-key")
        if key is None:
            return Answer(401, {"x-amzn-remapped-www-authenticate": "Bearer"})
        self.keys.add(key)
        return self._answer(path)

    def _store(self, method, body):
        """Answer as S3 does: to a presigned URL, and to the forms of the proof."""
        if method == "GET":
            return Answer(200)
        if b"text/html" in body or b"jobs/proof/form2" in body:
            return self.another
        return Answer(400 if b"x" * 101 in body else 204)

    def _health(self, path, world):
        functions = world.client("lambda")
        reserved = functions.get_function_concurrency(FunctionName="easel-proof")
        if reserved.get("ReservedConcurrentExecutions") == 0:
            return self.throttled
        function = functions.get_function(FunctionName="easel-proof")["Configuration"]
        if function["Timeout"] != 60:
            return Answer(200)
        if "seconds" in path:
            world.log_lines.append(probe.WENT_ON)
            return self.late
        return _json(self.folder)

    def _answer(self, path):
        encoded = base64.b64encode(PNG).decode()
        answers = {
            "options": Answer(200),
            "jobs": Answer(202, body=b'{"id": "1"}'),
            "jobs/1/image": Answer(200, body=PNG),
            f"jobs/sdxl-{'0' * 32}": Answer(404),
            "v1/images/generations": _json({"data": [{"b64_json": encoded}]}),
            "sdapi/v1/txt2img": _json({"images": [encoded]}),
            "usage?days=1": _json({"pictures": 3, "usd": self.used}),
            "no/such/path": Answer(404, body=b"The base URL is ..."),
            "inference/a%2Fb?seed=no": Answer(400),
        }
        if path.startswith("inference/a%20lighthouse?model=sdxl"):
            return Answer(303, {"location": "/api/jobs/1/image?hop=1"})
        cost = self.stored if path in self.painted else "0.000736"
        self.painted.add(path)
        picture = Answer(200, {"x-cost-usd": cost}, PNG)
        return answers.get(path.partition("?hop")[0], picture)


def _json(data):
    return Answer(200, body=json.dumps(data).encode())


@pytest.fixture
def world(serving_code, monkeypatch, tmp_path):
    """An account in which chalice's part is a call or two, since chalice needs a server."""
    monkeypatch.setattr(gateway_project, "PROJECTS", tmp_path / ".easel")
    monkeypatch.setattr(checks, "ask_the_hub", lambda _model: {"gated": False})
    # A World has no autoscaler, no pipelines and no events; the test with a real gateway has them.
    pipelines = ("event_value", "pipeline_failure", "pipeline_token")
    for name in ("wake_from_zero", "batch_events", *pipelines):
        monkeypatch.setitem(proof_checks.CHECKS, name, _awake)
    # A proof of the quotas needs some that limit.
    monkeypatch.setattr(service_quotas, "QUOTAS", dict.fromkeys(service_quotas.LISTED, 2.0))
    with empty_account() as world:
        world.schedules_run = True
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
    front = front or Front()
    if isinstance(front, Front):
        front.world = world
    code = prove.main(argv, asking=front, session=world.session, clock=world)
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
    # A World has no log of a real Lambda, and no training jobs.
    assert {name for name in checked if verdicts[name] != "held"} <= {
        "cold-start",
        "async-failure",
        "training-channel",
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
    assert run(world, tmp_path, "--most", most)[0] == 2
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
    front.world = world

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


def verdicts_of(world, tmp_path, front):
    """Return the verdicts of a proof that leaves nothing, by belief."""
    _, proof, _ = run(world, tmp_path, front=front)
    assert contents(world) == []
    return {each["id"]: each["verdict"] for each in proof["beliefs"]}


def test_an_aws_that_does_something_else_refutes_each_belief(world, tmp_path, monkeypatch):
    front = Front()
    front.throttled, front.late, front.another = Answer(429), Answer(200), Answer(204)
    front.folder = {"refused": "", "bytecode": True}
    front.stored, front.used = "0.000736", 0.0
    # The quotas are shown, and do not limit.
    monkeypatch.setattr(service_quotas, "QUOTAS", {})
    monkeypatch.setattr(sagemaker, "_is_scaled", lambda *_: False)
    monkeypatch.setattr(lifecycle, "ROLLING_BACK", lifecycle.UPDATING)
    monkeypatch.setattr(cloudformation, "CREATE_ONLY", {})
    verdicts = verdicts_of(world, tmp_path, front)

    refuted = {
        "gateway-timeout", "read-only-task", "stack-rollback", "throttled-function",
        "stored-picture", "update-quota", "update-rollback", "update-scaled", "upload-policy",
        "usage-records",
    }  # fmt: skip
    assert {name for name, verdict in verdicts.items() if verdict == "did not hold"} >= refuted
    assert verdicts["update-in-progress"] == "held"


def test_an_update_that_is_accepted_or_succeeds_proves_no_rollback(world, tmp_path, monkeypatch):
    monkeypatch.setattr(lifecycle.Lifecycle, "is_in_progress", False)
    verdicts = verdicts_of(world, tmp_path, Front())

    assert verdicts["update-in-progress"] == "did not hold"
    assert verdicts["update-rollback"] == "not checked"


def test_a_quota_with_much_room_is_not_proved(world, tmp_path, monkeypatch):
    monkeypatch.setattr(service_quotas, "QUOTAS", dict.fromkeys(service_quotas.LISTED, 5.0))
    assert verdicts_of(world, tmp_path, Front())["update-quota"] == "not checked"


def test_updates_for_which_the_limit_has_no_room_are_passed_over(world, tmp_path):
    _, proof, _ = run(world, tmp_path, "--most", "1.6")
    observed = {each["id"]: each["observed"] for each in proof["beliefs"]}

    assert {step["name"]: step["error"] for step in proof["steps"] if step["error"]} == {}
    for belief in ("update-quota", "update-scaled", "update-in-progress", "update-rollback"):
        assert observed[belief] == "--most has no room for it"
    assert observed["throttled-function"] == "500"


def test_each_belief_has_a_check_or_the_reason_why_not():
    for belief in beliefs():
        assert (belief.check in {*proof_checks.CHECKS, "leftovers"}) != bool(belief.why_not)


def calls_of_a_proof(world, tmp_path):
    """Return the numbers of a proof's calls that differ: all changes, and one of each reading."""
    run(world, tmp_path)
    return sorted({*world.changes, *map(world.calls.index, set(world.calls))})


# All of them take minutes.
STRIDE = 1 if os.environ.get("ALL_TESTS") else 40


@pytest.mark.slow
def test_whichever_call_fails_once_a_proof_leaves_nothing(world, tmp_path, capsys):
    calls = calls_of_a_proof(world, tmp_path)
    assert len(calls) > 100
    for call in calls[::STRIDE]:
        world.forget_calls()
        world.fail_at(call)
        run(world, tmp_path / str(call))
        failed = world.calls[call] if call < len(world.calls) else "none"
        assert contents(world) == [], f"call {call}: {failed}\n{capsys.readouterr().err[-2000:]}"
        capsys.readouterr()
