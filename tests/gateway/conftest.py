"""What tests of several folders use."""

import io

import pytest

from chalicelib import telemetry
from tests.gateway.doubles import GatewayClient, GuardedClient, guarded


@pytest.fixture
def client(monkeypatch):
    """A client of an open gateway with two real-time models."""
    return GatewayClient(monkeypatch)


@pytest.fixture
def guarded_client(monkeypatch):
    """A client of a gateway with one key."""
    return GuardedClient(monkeypatch, guarded())


@pytest.fixture
def log(monkeypatch, capsys):
    """All log lines so far, and after them all metrics."""
    # The logger's handler keeps the standard output that it was made with.
    output = io.StringIO()
    monkeypatch.setattr(telemetry.logger.registered_handler, "stream", output)
    return lambda: (output.getvalue() + capsys.readouterr().out).splitlines()
