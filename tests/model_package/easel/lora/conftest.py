import pytest

from tests.model_package.easel.lora.helpers import (
    KINDS,
    load,
)


@pytest.fixture(scope="module")
def pipelines(stand_in):
    return {kind: load(stand_in(kind=kind)) for kind in KINDS}
