from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from endpoint.emulator.apigateway import packaged_gateway
from endpoint.emulator.apigateway.proxy_event import HttpRequest, event
from endpoint.emulator.lambda_.lambda_runtime import RUNTIME, LambdaFunction, TooManyRequests
from endpoint.emulator.process.orphans import CAN_END_STOPPED
from endpoint.emulator.process.processes import ROOT
from tests.endpoint.emulator.apigateway.doubles import ask

HANDLER = """
import os, sys, time

def handle(event, context):
    what = event["do"]
    if what == "sleep":
        time.sleep(event["seconds"])
    if what == "exit":
        os._exit(3)
    if what == "raise":
        raise ValueError("no such prompt")
    if what == "big":
        return "x" * event["size"]
    if what == "import":
        __import__(event.get("module", "boto3"))
    if what == "context":
        return [context.aws_request_id, context.function_name, context.memory_limit_in_mb,
                context.get_remaining_time_in_millis(), context.invoked_function_arn]
    if what == "environment":
        return dict(os.environ)
    if what == "write":
        with open(os.path.join(os.environ["LAMBDA_TASK_ROOT"], event["name"]), "w") as file:
            file.write("x")
    if what == "path":
        return [os.getcwd(), sys.path]
    return os.getpid()
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(HANDLER, "utf-8")
    return tmp_path


@pytest.fixture
def function(folder):
    environment = {"EASEL_TEST": "here", "AWS_DEFAULT_REGION": "eu-west-1"}
    with LambdaFunction(
        folder, environment, handler="main.handle", timeout=20, memory_size=512, concurrency=2
    ) as running:
        yield running


def test_a_second_event_reuses_the_warm_instance(function):
    cold, warm = function.invoke({"do": ""}), function.invoke({"do": ""})
    assert cold.payload == warm.payload
    assert cold.init_duration is not None
    assert cold.init_duration > 0
    assert warm.init_duration is None
    assert function.max_rss() > 5_000_000


def state(pid):
    """Return a process's state, as ps shows it; empty without the process."""
    file = Path(f"/proc/{pid}/stat")
    return file.read_text().rpartition(")")[2].split()[0] if file.exists() else ""


def eventually(expected, pid):
    until = time.monotonic() + 60
    while state(pid) not in expected and time.monotonic() < until:
        time.sleep(0.01)
    return state(pid)


@pytest.mark.skipif(not CAN_END_STOPPED, reason="only Linux ends stopped processes")
def test_an_instance_is_frozen_between_events(function):
    pid = function.invoke({"do": ""}).payload

    assert eventually("T", pid) == "T"
    assert [function.invoke({"do": ""}).payload for _ in range(20)] == [pid] * 20
    assert eventually("T", pid) == "T"


@pytest.mark.skipif(not CAN_END_STOPPED, reason="only Linux ends stopped processes")
def test_a_frozen_instance_ends_with_its_parent(folder):
    program = (
        "import sys, time; from pathlib import Path;"
        "from endpoint.emulator.lambda_.lambda_runtime import LambdaFunction;"
        "function = LambdaFunction(Path(sys.argv[1]), handler='main.handle').__enter__();"
        "print(function.invoke({'do': ''}).payload, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        frozen = eventually("T", pid)
        parent.kill()

    assert frozen == "T"
    assert eventually(["", "Z"], pid) in {"", "Z"}


def test_a_handler_sees_lambdas_context(function):
    request_id, name, memory, left, arn = function.invoke({"do": "context"}).payload
    assert len(request_id) == 36
    assert (name, memory) == ("easel", "512")
    assert 0 < left <= 20_000
    assert arn == "arn:aws:lambda:eu-west-1:123456789012:function:easel"


def test_the_task_folder_is_read_only_and_no_import_leaves_bytecode_there(function, folder):
    (folder / "module.py").write_text("VALUE = 1\n")

    written = function.invoke({"do": "write", "name": "file"})
    assert function.invoke({"do": "import", "module": "module"}).error is None

    assert written.payload["errorMessage"].startswith("[Errno 30] Read-only file system")
    assert {path.name for path in folder.rglob("*")} == {"main.py", "module.py"}


def test_a_handler_sees_its_own_variables_only(function, monkeypatch):
    monkeypatch.setenv("OF_THIS_MACHINE", "1")
    seen = function.invoke({"do": "environment"}).payload
    assert seen["EASEL_TEST"] == "here"
    assert seen["AWS_REGION"] == "eu-west-1"
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "easel"
    assert seen["_HANDLER"] == "main.handle"
    assert "OF_THIS_MACHINE" not in seen
    assert "EASEL_EMULATOR_WATCHED" not in seen


def test_a_package_cannot_import_installed_packages(function, folder):
    here, path = function.invoke({"do": "path"}).payload
    assert Path(here) == folder.resolve()
    assert Path(path[0]) == folder.resolve()
    assert not [entry for entry in path if "site-packages" in entry]
    result = function.invoke({"do": "import"})
    assert result.error == "Unhandled"
    assert "boto3" in result.payload["errorMessage"]


def test_an_exception_is_an_error_with_its_name(function):
    result = function.invoke({"do": "raise"})
    assert result.error == "Unhandled"
    assert result.payload["errorType"] == "ValueError"
    assert result.payload["errorMessage"] == "no such prompt"
    assert function.invoke({"do": ""}).error is None


def test_instances_are_added_up_to_the_limit_and_then_events_are_throttled(
    function,
):
    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(function.invoke, {"do": "sleep", "seconds": 2}) for _ in range(2)]
        until = time.monotonic() + 60
        while function.busy < 2:
            assert time.monotonic() < until
        with pytest.raises(TooManyRequests):
            function.invoke({"do": ""})
        pids = {one.result(60).payload for one in busy}
    assert len(pids) == 2
    assert function.invoke({"do": ""}).payload in pids


def test_a_timeout_kills_the_instance(folder):
    with LambdaFunction(folder, handler="main.handle", timeout=3) as function:
        before = function.invoke({"do": ""}).payload
        late = function.invoke({"do": "sleep", "seconds": 60})
        assert late.error == "Unhandled"
        assert late.payload["errorMessage"].endswith("Task timed out after 3.00 seconds")
        assert function.invoke({"do": ""}).payload != before
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)


def test_an_instance_that_exits_is_replaced(function):
    gone = function.invoke({"do": "exit"})
    assert gone.payload["errorType"] == "Runtime.ExitError"
    assert "exit status 3" in gone.payload["errorMessage"]
    assert function.invoke({"do": ""}).error is None


def test_a_handler_that_cannot_be_imported_is_an_init_error(folder):
    with LambdaFunction(folder, handler="nothing.handle") as function:
        result = function.invoke({})
    assert result.error == "Unhandled"
    assert result.payload["errorType"] == "Runtime.ImportModuleError"


def test_responses_are_limited_to_six_megabytes(function):
    # Two bytes are the quotes.
    most = function.invoke({"do": "big", "size": 6_291_556 - 2})
    assert (most.error, most.size) == (None, 6_291_556)
    more = function.invoke({"do": "big", "size": 6_291_556 - 1})
    assert more.error == "Unhandled"
    assert more.payload["errorType"] == "Function.ResponseSizeTooLarge"


def test_no_instance_outlives_its_function(folder):
    with LambdaFunction(folder, handler="main.handle") as function:
        pid = function.invoke({"do": ""}).payload
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.fixture(scope="module")
def api(package):
    with packaged_gateway.serve(package, environment={"GIVEN": "yes"}) as server:
        yield server.server_address[1]


PNG = b"\x89PNG" + bytes(range(256))


@pytest.mark.parametrize("accept", ["*/*", "image/png", "text/html,*/*;q=0.8"])
def test_a_packaged_chalice_application_returns_pictures(api, accept):
    status, headers, body = ask(api, "/api/png/a%20cat", Accept=accept)
    assert (status, body) == (200, PNG)
    assert headers["content-type"] == "image/png"
    assert headers["x-text"] == "a%20cat"


def test_a_literal_route_takes_precedence_over_a_placeholder(api):
    assert ask(api, "/api/png/default", Accept="*/*")[1]["x-text"] == "the default"


def test_the_packages_variables_reach_the_function(api):
    seen = json.loads(ask(api, "/api/health", Accept="*/*")[2])
    assert (seen["FROM_TEMPLATE"], seen["GIVEN"]) == ("yes", "yes")
    assert seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"


def test_a_package_for_another_python_is_refused(package, tmp_path):
    text = (package / "sam.json").read_text("utf-8")
    (tmp_path / "sam.json").write_text(text.replace(RUNTIME, "python3.99"), "utf-8")
    with (
        pytest.raises(packaged_gateway.WrongPython, match=r"for python3\.99, and this is python3"),
        packaged_gateway.serve(tmp_path),
    ):
        pass


def test_a_posted_body_arrives(api):
    _, _, body = ask(
        api, "/api/echo", "POST", b'{"a": 1}', Accept="*/*", Content_Type="application/json"
    )
    seen: dict[str, Any] = json.loads(body)
    assert seen["isBase64Encoded"] is True
    assert seen["requestContext"]["resourcePath"] == "/echo"


def test_a_crash_and_a_response_above_the_limit_are_502s(api):
    assert ask(api, "/api/do/exit", Accept="*/*")[0] == 502
    assert ask(api, "/api/do/big", Accept="*/*")[0] == 502
    assert ask(api, "/api/do/count", Accept="*/*")[0] == 200


def test_chalice_itself_reads_the_emulated_event(package):
    made = event(
        HttpRequest("GET", "/api/do/count", "", [("Accept", "*/*")], b"", "127.0.0.1"),
        stage="api",
        resource="/do/{what}",
        below_stage="/do/count",
        parameters={"what": "count"},
        binary_types=["*/*"],
    )
    with LambdaFunction(package / "deployment.zip") as function:
        result = function.invoke(made)
    assert result.error is None
    assert result.payload["statusCode"] == 200
    assert result.payload["isBase64Encoded"] is True
