"""The serving image, built, started, stopped and pushed for real: without a Docker engine."""

from __future__ import annotations

import io
import json
import platform
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import PIL.Image
import pytest
import urllib3
from pip._internal.models.index import PyPI

from endpoint.aws.registry import Image, Manifest
from endpoint.core.local_addresses import go_direct
from endpoint.core.problems import BuildFailed
from endpoint.emulator.process.processes import free_port
from endpoint.provision.serving import own_image
from tests import containers
from tests.containers import Container
from tests.model_package.doubles.toolkit import Toolkit
from tests.packages import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.own_environment]

REQUEST = {"prompt": "a red apple", "seed": 7}
# Several seconds of painting, to be stopped in.
LONG = {**REQUEST, "steps": 100, "width": 256, "height": 256}
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
# What the server does without a network and without curl.
ASK = f"""
import http.client, json, sys
server = http.client.HTTPConnection("127.0.0.1", 8080, timeout=300)
headers = {{"Content-Type": "application/json", "Accept": "image/png"}}
server.request("POST", "/invocations", json.dumps({REQUEST}), headers)
sys.stdout.write(server.getresponse().read().hex())
"""
# Modules that a start loads from a source file without bytecode.
UNCOMPILED = """
import pathlib, sys
sys.path.insert(0, "code")
import server.main, inference
model = inference.model_fn("/opt/ml/model").generator()
for name, module in sorted(sys.modules.items()):
    spec = vars(module).get("__spec__")
    cached = spec and spec.origin and spec.origin.startswith("/opt") and spec.cached
    if cached and not pathlib.Path(cached).exists():
        print("uncompiled:", name)
"""


@pytest.fixture(scope="module")
def image():
    with containers.image() as name:
        yield name


@pytest.fixture(scope="module")
def expected():
    """Return the picture as this process paints it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EASEL_DEFAULTS", raising=False)
        return Toolkit(containers.DEMO).post(REQUEST, accept="image/png").body


@pytest.fixture(scope="module")
def registry(image):
    """Return the address of a registry that has the image."""
    with containers.registry() as address:
        containers.push(image, f"{address}/easel:1", "v2s2")
        yield address


def invoke(container, body):
    headers = {"Content-Type": "application/json", "Accept": "image/png"}
    return urllib3.request(
        "POST", f"{container.url}/invocations", body=json.dumps(body), headers=headers,
        retries=False, timeout=300,
    )  # fmt: skip


def in_background(container, body):
    """Send a request; return the list that gets its response or error, and its thread."""
    results = []

    def ask():
        try:
            results.append(invoke(container, body))
        except urllib3.exceptions.HTTPError as error:
            results.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(1)
    return results, thread


def test_it_reports_when_it_is_ready_paints_the_same_picture_survives_a_kill_and_ends_when_asked(
    image, expected
):
    with Container(image) as container:
        statuses = set()

        def ready():
            statuses.add(container.ping())
            return 200 in statuses

        container.wait_until(lambda: container.ping() == 503 or ready())
        assert not container.healthy()
        container.wait_until(ready)
        assert statuses <= {0, 503, 200}
        assert container.healthy()
        response = invoke(container, REQUEST)
        assert (response.status, response.headers["Content-Type"]) == (200, "image/png")
        assert response.data == expected

        results, thread = in_background(container, LONG)
        containers.run("podman", "kill", "--signal", "KILL", container.name)
        thread.join()
        # No half picture, and nothing that a new start minds.
        assert isinstance(results[0], urllib3.exceptions.HTTPError)
        assert container.exit_code() == 128 + signal.SIGKILL
        containers.run("podman", "start", container.name)
        container.wait_until(lambda: container.ping() == 200)

        results, thread = in_background(container, LONG)
        containers.run("podman", "stop", "--time", "30", container.name)
        thread.join()
        (response,) = results
        # Painted to its end, or refused in a way that a client can repeat.
        assert response.status in (200, 503), container.log()
        assert response.data[:4] == b"\x89PNG" or json.loads(response.data)["error"]
        assert container.exit_code() == 0, container.log()


def test_with_a_model_in_it_the_image_needs_neither_network_nor_volumes_nor_a_writable_disk(
    image, expected
):
    whole = containers.build(tag=f"{image}-demo", model=containers.DEMO)
    with Container(whole, alone=True) as container:
        container.wait_until(container.healthy)
        assert bytes.fromhex(container.execute("python", "-c", ASK).stdout) == expected


def test_a_start_compiles_no_bytecode(image):
    options = ["--volume", f"{containers.DEMO}:/opt/ml/model:ro", "--entrypoint", "python"]
    done = containers.run("podman", "run", "--rm", *options, image, "-c", UNCOMPILED)
    assert [line for line in done.stdout.splitlines() if line.startswith("uncompiled:")] == []


def test_run_serves_from_the_image_and_stops_its_container(image, expected):
    port = free_port()
    environment = {**containers.environment(), "OMP_NUM_THREADS": "1"}
    environment.pop("EASEL_DEFAULTS")
    go_direct(environment)
    command = [sys.executable, "-m", "endpoint.emulator", "run", "--image", "local"]
    command += ["--port", str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            ready = f"Easel is at http://127.0.0.1:{port}/api/"
            said = []
            while said[-1:] != [ready] and process.poll() is None:
                said += [process.stdout.readline().strip()]
            assert said[-1:] == [ready], said
            url = f"http://127.0.0.1:{port}/api/inference/a%20red%20apple?seed=7"
            answer = urllib3.request("GET", url, headers={"Accept": "*/*"}, timeout=120)
            # The files also contain the name by which the gateway calls the model.
            assert pixels(answer.data) == pixels(expected)
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
    names = containers.run("podman", "ps", "--all", "--format", "{{.Names}}").stdout
    assert names.split() == []


def test_sagemaker_takes_what_is_pushed(registry):
    media_type, manifest = containers.manifest(registry, "easel", "1")
    assert media_type == manifest["mediaType"] == DOCKER
    assert Manifest("sha256:", media_type).servable
    assert {layer["mediaType"] for layer in manifest["layers"]} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }
    assert sum(layer["size"] for layer in manifest["layers"]) < 600e6


def test_an_image_in_the_oci_format_is_refused_before_sagemaker_does(registry):
    """What Buildah, and Docker with attestations, push unless they are asked not to."""
    container = containers.run("buildah", "from", "scratch").stdout.strip()
    containers.run("buildah", "commit", "--quiet", "--rm", container, "localhost/empty")
    containers.push("localhost/empty", f"{registry}/empty:1", "oci")
    media_type, _ = containers.manifest(registry, "empty", "1")
    assert media_type == OCI
    image = Image.parse("123456789012.dkr.ecr.us-east-1.amazonaws.com/easel:1")
    with pytest.raises(BuildFailed, match=OCI.replace("+", r"\+")):
        own_image.check_servable(image, Manifest("sha256:", media_type))


def test_the_configuration_is_what_sagemaker_and_people_need(image):
    (found,) = json.loads(containers.run("podman", "image", "inspect", image).stdout)
    config = found["Config"]
    assert config["Entrypoint"] == ["python", "-m", "server"]
    assert config["Cmd"] == ["serve"]
    assert config["StopSignal"] == "SIGTERM"
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert config.get("User", "") == ""
    assert found["ManifestType"] == DOCKER
    assert found["Healthcheck"]["Test"][:3] == ["CMD", "python", "-c"]
    assert {"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"} <= {
        *config["Env"]
    }
    assert found["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert found["Labels"]["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"


def test_nothing_of_the_machine_that_built_it_is_in_a_layer_or_in_the_history(registry):
    del registry
    texts, names, found = {text.encode() for text in machine()}, [], []
    for path in containers.stored_blobs():
        blob = containers.unpacked(path)
        found += [text for text in texts if text in blob]
        if not blob.startswith(b"{"):  # else the manifest, or the configuration with the history
            with tarfile.open(fileobj=io.BytesIO(blob)) as layer:
                names += layer.getnames()
    assert texts
    assert found == []
    assert "opt/easel/server/__main__.py" in names
    unwanted = r"(etc/pip\.conf|root/\.cache/.|var/lib/apt/lists/.+_|wheels|run/.+)$"
    unwanted += r"|opt/easel/(compiled|demo)/.|.*/Dockerfile"
    assert [name for name in names if re.match(unwanted, name)] == []


def pixels(file):
    with PIL.Image.open(io.BytesIO(file)) as picture:
        return picture.size, picture.tobytes()


def machine():
    """Return texts that name this machine: its folders, its name, and where it gets packages."""
    settings = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings += "".join(path.read_text("utf-8") for path in Path("/etc/apt").rglob("*.sources"))
    settings += "".join(path.read_text("utf-8") for path in Path("/etc/apt").rglob("*.list"))
    hosts = set(re.findall(r"\w+://(?:[^/\s']*@)?([\w.-]+)", settings))
    # The image's own files may name Debian's public addresses, and those that pip has itself.
    debian = platform.freedesktop_os_release()["HOME_URL"].split("/")[2].removeprefix("www")
    public = (debian, PyPI.netloc, PyPI.file_storage_domain)
    hosts = {host for host in hosts if not host.endswith(public)}
    folders = set(re.findall(r"(?:file://|')(/[\w./-]+)'?", settings)) - {"/etc/ssl/certs"}
    return {str(ROOT), *hosts, *(f for f in folders if not f.startswith("/etc/ssl"))}
