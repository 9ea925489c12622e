from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import urllib3
from botocore.exceptions import ClientError

from endpoint.emulator.__main__ import main, parser
from endpoint.emulator.process.clients import Clients
from endpoint.emulator.process.processes import ROOT, Child
from endpoint.emulator.sagemaker.faults import CONTAINER, DOOR, WAY_BACK
from tests.endpoint.emulator.doubles import PNG, REGION, create_endpoint, invoke

PAGE = (ROOT / "docs" / "emulator.md").read_text("utf-8")


@contextmanager
def started(*arguments):
    """Run one command and give the address that it prints."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "endpoint.emulator", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            # A model server's log has the lines before.
            yield next(line for line in process.stdout if not line.startswith("{")).split()[-1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_the_aws_command_uses_a_given_container(container):
    with started("aws", "--port", "0", "--container", f"some={container.url}") as url:
        clients = Clients(lambda: url)
        create_endpoint(clients, name="some")
        assert invoke(clients.get("sagemaker-runtime", REGION), "some")["Body"].read() == PNG
        # Here the quotas that are shown, of 2, limit as well.
        create_endpoint(clients, name="second")
        with pytest.raises(ClientError, match="ResourceLimitExceeded"):
            create_endpoint(clients, name="third")


@pytest.mark.parametrize("image", ["easel", "aws"])
def test_the_model_server_command_serves_a_script(tmp_path, image):
    (tmp_path / "inference.py").write_text(
        "def model_fn(d): return d\n"
        "def input_fn(b, c): return b\n"
        "def predict_fn(d, m): return d\n"
        "def output_fn(p, a): return p\n"
    )
    folders = ["--code", str(tmp_path), "--model-dir", str(tmp_path), "--image", image]
    with started("model-server", "--port", "0", *folders) as url:
        answer = urllib3.request("POST", f"{url}/invocations", body=b"abc", retries=False)
        assert answer.data == b"abc"


def test_the_api_gateway_command_serves_a_package(package):
    arguments = ["--package", str(package), "--env", "GIVEN=yes"]
    with started("api-gateway", "--port", "0", *arguments) as url:
        answer = urllib3.request("GET", f"{url}/api/health", headers={"Accept": "*/*"})
        assert answer.json()["GIVEN"] == "yes"


def test_a_variable_without_a_value_is_refused(package):
    arguments = ["--port", "0", "--package", str(package), "--env", "WRONG"]
    done = subprocess.run(
        [sys.executable, "-m", "endpoint.emulator", "api-gateway", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "WRONG is not NAME=VALUE" in done.stderr


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("api-gateway", "--package", "/nowhere"), "has no sam.json"),
        (("api-gateway", "--package", "README.md"), "has no sam.json"),
        (("model-server", "--code", "/nowhere", "--model-dir", "."), "--code /nowhere is not"),
        (("model-server", "--code", ".", "--model-dir", "README.md"), "--model-dir README.md is"),
        (("aws", "--longest-body", "0"), "--longest-body 0 is less than 1"),
        (("aws", "--port", "-1"), "--port -1 is no port"),
    ],
)
def test_what_is_missing_is_said_in_one_line(argv, said, capsys):
    port = () if "--port" in argv else ("--port", "0")
    assert main([*argv, *port]) == 1
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def options():
    """Return the options of each command, as --help has them."""
    commands = next(action for action in parser()._actions if action.choices)
    return {
        name: {
            option
            for action in command._actions
            for option in action.option_strings
            if option.startswith("--") and option != "--help"
        }
        for name, command in dict(commands.choices or {}).items()
    }


def test_the_page_shows_every_command_with_every_option():
    for name, known in options().items():
        shown = re.search(rf"python -m endpoint\.emulator {name}(.*?)```", PAGE, re.DOTALL)
        assert shown is not None, f"docs/emulator.md does not show {name}"
        assert set(re.findall(r"--[a-z-]+", shown[1])) == known


def test_the_page_names_every_fault():
    for kind in (*DOOR, *CONTAINER, *WAY_BACK):
        assert f"| `{kind}` |" in PAGE


@pytest.mark.parametrize("command", ["run", "aws", "model-server", "api-gateway"])
def test_help_lists_the_port_of_every_command(command):
    shown = subprocess.run(
        [sys.executable, "-m", "endpoint.emulator", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "100"},
    ).stdout
    assert re.search(rf"^  {command} +\d{{4}} ", shown, re.MULTILINE)


@pytest.mark.parametrize("command", ["aws", "model-server", "api-gateway"])
def test_a_server_that_is_a_child_ends_with_its_parent(command, tmp_path, package):
    (tmp_path / "inference.py").write_text("")
    given = {
        "aws": (),
        "model-server": ("--code", str(tmp_path), "--model-dir", str(tmp_path), "--image", "aws"),
        "api-gateway": ("--package", str(package)),
    }
    child = Child(
        command,
        "endpoint.emulator",
        [command, "--port", "0", *given[command]],
        output=subprocess.PIPE,
    )
    try:
        assert child.process.stdout is not None
        assert b"http://" in child.process.stdout.readline()
        assert child.process.stdin is not None
        child.process.stdin.close()  # as the kernel does when the parent is gone

        assert child.process.wait(60) == 1
    finally:
        child.kill()
