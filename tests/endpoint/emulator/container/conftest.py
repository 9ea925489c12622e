from __future__ import annotations

import textwrap

import pytest

from tests.endpoint.emulator.container.doubles import ECHO, serving


@pytest.fixture(scope="package")
def echo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("echo")
    (folder / "inference.py").write_text(textwrap.dedent(ECHO), "utf-8")
    with serving(folder) as served:
        yield served
