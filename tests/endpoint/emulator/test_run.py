from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import urllib3

from endpoint.emulator.process.processes import ROOT, free_port, port_is_free
from tests.endpoint.emulator.doubles import is_alive, wait_until

INFERENCE = """
    import json, os

    def model_fn(model_dir):
        if os.path.exists(os.path.join(model_dir, "broken")):
            raise OSError("weights are damaged")
        return model_dir

    def input_fn(body, content_type): return json.loads(body)
    def predict_fn(data, model): return os.environ["SAGEMAKER_PROGRAM"] + data["prompt"]
    def output_fn(prediction, accept): return b"\\x89PNG" + prediction.encode()
"""

GATEWAY = """
    import json, os
    import boto3
    from chalice import Chalice, Response

    app = Chalice(app_name="double")
    app.api.binary_types = ["*/*"]
    PREFIX = os.environ["ROUTE_PREFIX"]
    MODELS = json.loads(os.environ["EASEL_MODELS"])

    @app.route(PREFIX + "/health")
    def health():
        return MODELS

    @app.route(PREFIX + "/inference/{text}")
    def inference(text):
        answer = boto3.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=next(iter(MODELS.values()))["endpoint"],
            Body=json.dumps({"prompt": text}),
            ContentType="application/json",
            Accept="image/png",
        )
        return Response(answer["Body"].read(), headers={"Content-Type": "image/png"})

    @app.route(PREFIX + "/die")
    def die():
        os._exit(5)
"""


# Nothing that runs on this machine is called through a proxy, and none answers here.
PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9") | {
    "no_proxy": "internal.example"
}


class Easel:
    """The command under test, and the folders that it was given."""

    def __init__(self, folder):
        self.port = free_port()
        self.model, self.code, self.gateway = folder / "sd", folder / "code", folder / "gateway"
        for made in (self.model, self.code, self.gateway / ".chalice"):
            made.mkdir(parents=True)
        (self.code / "inference.py").write_text(textwrap.dedent(INFERENCE), "utf-8")
        (self.gateway / "app.py").write_text(textwrap.dedent(GATEWAY), "utf-8")
        stage = '{"local": {"environment_variables": {"ROUTE_PREFIX": "/api"}}}'
        (self.gateway / ".chalice" / "config.json").write_text(
            f'{{"version": "2.0", "app_name": "double", "stages": {stage}}}', "utf-8"
        )
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, output):
        arguments = ["--port", str(self.port), "--model", str(self.model)]
        arguments += ["--code", str(self.code), "--gateway", str(self.gateway)]
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "endpoint.emulator", "run", *arguments],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **PROXIES, "AWS_PROFILE": "does-not-exist"},
        )
        return self.process

    def output(self):
        return self.log.read_text("utf-8")

    def started(self):
        wait_until(
            lambda: (
                f"Easel is at http://127.0.0.1:{self.port}/api/\n" in self.output()
                or (self.process is not None and self.process.poll() is not None)
            )
        )
        assert self.process is not None
        assert self.process.poll() is None, self.output()

    def get(self, path):
        url = f"http://127.0.0.1:{self.port}/api/{path}"
        return urllib3.request("GET", url, headers={"Accept": "*/*"}, retries=False).data

    def status(self, host, target="/api/health", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", target, headers={"Host": host, "Accept": "*/*", **headers})
        status = connection.getresponse().status
        connection.close()
        return status

    def family(self):
        """Return the ids of all the processes below the command's."""
        assert self.process is not None
        listed = subprocess.run(
            ["/bin/ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout
        pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in pairs if parent == pid]
        return found[1:]


@pytest.fixture
def easel(tmp_path):
    made = Easel(tmp_path)
    with made.log.open("wb") as output:

        def start():
            made.start(output)
            return made

        yield start
    if made.process is not None:
        made.process.kill()
        made.process.wait()


def test_run_serves_a_picture_and_leaves_no_process(easel):
    running = easel()
    running.started()
    assert json.loads(running.get("health")) == {
        "sd": {"endpoint": "easel-sd", "pictures": "s3://easel-local/pictures/sd/"}
    }
    assert running.get("inference/cat") == b"\x89PNGinference.pycat"
    assert running.status("evil.example") == 403
    assert running.status(f"evil.example:{running.port}") == 403
    for host in ("localhost", "127.0.0.1", "[::1]", "host.docker.internal"):
        assert running.status(f"{host}:{running.port}") == 200
    # The gateway says itself which sites' pages can use it.
    assert running.status("localhost", Origin="https://example.org") == 200
    assert running.status("localhost", target="http://evil.example/api/health") == 403
    family = running.family()
    # The model server and the gateway.
    assert len(family) == 2
    assert running.process is not None
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(60) == 0
    assert not [pid for pid in family if is_alive(pid)]
    assert port_is_free(running.port)


def test_no_process_is_left_when_run_is_killed(easel):
    running = easel()
    running.started()
    family = running.family()
    assert running.process is not None
    running.process.kill()
    wait_until(lambda: not [pid for pid in family if is_alive(pid)])
    wait_until(lambda: port_is_free(running.port))


def test_run_ends_with_a_message_when_the_gateway_ends(easel):
    running = easel()
    running.started()
    family = running.family()
    with pytest.raises(urllib3.exceptions.HTTPError):
        running.get("die")
    assert running.process is not None
    assert running.process.wait(60) == 1
    assert "Easel: the gateway has ended with exit code 5" in running.output()
    assert not [pid for pid in family if is_alive(pid)]


def test_a_port_in_use_is_reported_at_once(easel, tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "endpoint.emulator", "run", "--port", str(port)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == f"Easel: port {port} is in use; choose another with --port\n"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EASEL_API_KEYS", ""),
        ("EASEL_API_KEYS", '[{"name": "ada"}]'),
        ("EASEL_CORS_ORIGINS", "example.org"),
        ("EASEL_PROMPT_FILTER", "on"),
        ("EASEL_DTYPE", "fp17"),
    ],
)
def test_an_unusable_setting_is_reported_before_the_model_is_loaded(variable, value):
    done = _run_alone("--port", str(free_port()), **{variable: value})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Easel: {variable} ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ("--port", "-1"),
        ("--port", "0"),
        ("--port", "65536"),
        ("--aws-port", "-1"),
        ("--port", "8765", "--aws-port", "8765"),
    ],
)
def test_an_unusable_port_is_reported_at_once(argv):
    done = _run_alone(*argv)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Easel: --")
    assert done.stderr.count("\n") == 1


def test_a_model_that_no_file_system_can_read_is_reported():
    done = _run_alone("--port", str(free_port()), "--model", "m" * 300)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Easel: ")
    assert done.stderr.count("\n") == 1


def _run_alone(*argv, **variables):
    command = [sys.executable, "-m", "endpoint.emulator", "run", *argv]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_model_that_cannot_be_loaded_is_reported(easel, tmp_path):
    (tmp_path / "sd" / "broken").touch()
    running = easel()
    assert running.process is not None
    assert running.process.wait(60) == 1
    assert "Easel: the model sd could not be loaded" in running.output()
    assert "weights are damaged" in running.output()


def test_a_gateway_that_cannot_start_is_reported(easel, tmp_path):
    (tmp_path / "gateway" / "app.py").write_text("raise RuntimeError('no such setting')")
    running = easel()
    assert running.process is not None
    assert running.process.wait(60) == 1
    assert "no such setting" in running.output()
    assert "Easel: the gateway has ended" in running.output()


@pytest.mark.parametrize("missing", ["code/inference.py", "gateway/app.py"])
def test_a_missing_part_is_named(easel, tmp_path, missing):
    (tmp_path / missing).unlink()
    running = easel()
    assert running.process is not None
    assert running.process.wait(60) == 1
    assert f"no {Path(missing).name} in" in running.output()


@pytest.mark.parametrize("command", ["endpoint", "endpoint.emulator"])
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_command_that_still_imports_ends_without_a_traceback(tmp_path, command, number, status):
    # What both import last of all.
    for module in ("moto", "boto3"):
        (tmp_path / f"{module}.py").write_text(
            "import time; print('importing', flush=True); time.sleep(60)"
        )
    with subprocess.Popen(
        [sys.executable, "-m", command, "run" if command == "endpoint.emulator" else "status"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        assert (process.wait(60), process.stderr.read()) == (status, "")


def test_run_can_be_stopped_while_the_model_loads(easel, tmp_path):
    code = tmp_path / "code" / "inference.py"
    code.write_text(code.read_text().replace("if os", "import time; time.sleep(60)\n    if os"))
    running = easel()
    wait_until(lambda: "Loading the model sd" in running.output())
    time.sleep(0.5)
    assert running.process is not None
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 130
    assert "Traceback" not in running.output()
    assert '"response"' not in running.output()  # a line for each trial would bury the rest
    assert port_is_free(running.port)
