from __future__ import annotations

import pytest

from tests.endpoint.emulator.doubles import REGION


@pytest.fixture
def sagemaker(clients):
    return clients.get("sagemaker", REGION)
