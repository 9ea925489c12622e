"""Web pages of other sites cannot use what listens on this machine."""

from __future__ import annotations

import http.client
import os
from urllib.parse import urlsplit

import pytest

from endpoint.emulator.container import easel_server
from endpoint.emulator.container.model_server import ModelServer
from tests.endpoint.emulator.doubles import BUCKET
from tests.model_package.server.served import SCRIPT

EVIL = "https://evil.example"


def status(url, method="GET", **headers):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    query = f"?{parts.query}" if parts.query else ""
    connection.request(method, f"{parts.path}{query}", headers=names)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


@pytest.fixture(scope="module")
def model_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "inference.py").write_text("def model_fn(d): return d\n")
    with ModelServer(folder, folder, {}).serve() as server:
        yield server


@pytest.fixture(scope="module")
def own_server(script_folder):
    environment = {**os.environ, "SCRIPT_FOLDER": str(script_folder)}
    with easel_server.serving(SCRIPT, script_folder, environment) as server:
        yield server


@pytest.fixture(scope="module")
def script_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("script")


@pytest.fixture(params=["aws", "control", "model_server", "own_server"])
def address(request, aws, model_server, own_server):
    return {
        "aws": f"{aws.url}/{BUCKET}",
        "control": f"{aws.url}/emulator/requests",
        "model_server": f"{model_server.url}/ping",
        "own_server": f"{own_server.url}/ping",
    }[request.param]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", ""])
def test_another_host_is_refused(clients, address, host):
    assert status(address, Host=host) == 403


@pytest.mark.parametrize("origin", [EVIL, "null", "http://localhost.evil.example"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_another_sites_page_is_refused(clients, address, method, origin):
    assert status(address, method, Origin=origin) == 403


def test_another_sites_image_is_refused(clients, address):
    assert status(address, Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="image") == 403


@pytest.mark.parametrize("headers", [{}, {"Host": "localhost"}, {"Origin": "http://[::1]:8000"}])
def test_this_machines_programs_and_pages_are_answered(clients, address, headers):
    assert status(address, **headers) == 200


def test_a_signed_picture_can_be_shown_on_any_page(aws, s3):
    s3.put_object(Bucket=BUCKET, Key="shown", Body=b"picture")
    link = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "shown"})
    assert status(link, Sec_Fetch_Site="cross-site") == 200
    assert status(link, Origin=EVIL) == 403
    assert status(f"{aws.url}/{BUCKET}/shown", Sec_Fetch_Site="cross-site") == 403
