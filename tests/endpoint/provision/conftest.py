from __future__ import annotations

import pytest

from endpoint.cli.context import Context
from endpoint.core.account import Account
from endpoint.core.console import Console


@pytest.fixture
def context(world):
    """A command's context in an account, in which every question is answered with yes."""
    return Context(Account(world.session, world), Console(world, as_json=False, yes=True), "main")
