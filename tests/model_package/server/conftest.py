from __future__ import annotations

import pytest

from tests.model_package.server.served import serving


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server for all tests that leave it as it was."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running.ready()


@pytest.fixture
def own(tmp_path):
    """Start servers for one test."""
    started = []

    def start(*arguments, **variables):
        folder = tmp_path / str(len(started))
        folder.mkdir()
        context = serving(folder, *arguments, **variables)
        started.append(context)
        return context.__enter__()

    yield start
    for context in started:
        context.__exit__(None, None, None)
