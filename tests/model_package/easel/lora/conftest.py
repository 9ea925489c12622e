import pytest

from tests.model_package.easel.lora.helpers import (
    KINDS,
    load,
)


@pytest.fixture(scope="session")
def pipelines(stand_in):
    """Pipelines by kind; a test that applies adapters restores the weights."""
    return {kind: load(stand_in(kind=kind)) for kind in KINDS}


@pytest.fixture(scope="session")
def sdxl(pipelines):
    return pipelines["sdxl"][0]
