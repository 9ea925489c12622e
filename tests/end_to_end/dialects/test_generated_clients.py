"""Clients that generators make of the OpenAPI document, which generate pictures with a key."""

import io
import shutil
import subprocess
from base64 import b64decode

import pytest
from PIL import Image

from tests.end_to_end.access import KEY
from tests.end_to_end.calls import bodies
from tests.end_to_end.dialects.conftest import installed_apart, npm_project, printed

# What OpenAPI Generator warns of whatever the document is.
USUAL = (
    "OpenAPI 3.1 support is still in beta",
    "Failed to get the schema name: null",
    # A parameter of /usage, which is generated as `var_from`.
    "From (reserved word) cannot be used as model name",
)

# Of itself it makes text of a picture.
CONFIGURATION = """
post_hooks: []
content_type_overrides:
  image/png: application/octet-stream
  image/svg+xml: text/html
"""


def check(received, emulator, prompt):
    pictures = [Image.open(io.BytesIO(b64decode(picture))) for picture in received["pictures"]]
    assert [picture.format for picture in pictures] == ["PNG"] * 3
    assert [request["prompt"] for request in bodies(emulator)] == [prompt] * 3
    assert received["job"] == "waiting"
    assert received["refused"] == "unauthorized"


def ran(command, folder):
    """Run a generator; return what it has printed."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_openapi_python_client(guarded_local, program, emulator, prompt, tmp_path):
    command = [
        installed_apart("programs") / "openapi-python-client",
        *("generate", "--url", f"{guarded_local}/openapi.json", "--meta", "none"),
        *("--output-path", tmp_path / "easel_client", "--config", tmp_path / "config.yml"),
        "--fail-on-warning",
    ]
    (tmp_path / "config.yml").write_text(CONFIGURATION)
    ran(command, tmp_path)

    arguments = (guarded_local, KEY, prompt)
    received = program("openapi_python_client.py", *arguments, path=str(tmp_path))

    check(received, emulator, prompt)


@pytest.mark.own_environment
def test_openapi_generator_for_python(guarded_local, program, emulator, prompt, tmp_path):
    command = [installed_apart("generators") / "openapi-generator-cli", "generate", "-g", "python"]
    output = ran([*command, "-i", f"{guarded_local}/openapi.json", "-o", "."], tmp_path)
    warnings = [line for line in output.splitlines() if "WARN" in line or "ERROR" in line]
    assert [line for line in warnings if not any(usual in line for usual in USUAL)] == []

    received = program(
        "openapi_generator_client.py",
        *(guarded_local, KEY, prompt),
        environment="generators",
        path=str(tmp_path),
    )

    check(received, emulator, prompt)


@pytest.mark.own_environment
def test_openapi_typescript(guarded_local, emulator, prompt):
    folder = npm_project("typescript")
    tools = folder / "node_modules" / ".bin"
    ran([tools / "openapi-typescript", f"{guarded_local}/openapi.json", "-o", "easel.ts"], folder)
    ran([tools / "tsc"], folder)

    body = f'{{"key": "{KEY}", "prompt": "{prompt}"}}'
    received = printed([shutil.which("node"), "use.js", guarded_local, body], folder)

    check(received, emulator, prompt)
