from __future__ import annotations

from typing import Any

import pytest

from endpoint.emulator.process.clients import Clients
from tests.endpoint.emulator.doubles import REGION


@pytest.fixture
def sagemaker(clients: Clients) -> Any:
    return clients.get("sagemaker", REGION)
