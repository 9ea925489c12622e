"""Requests that schemathesis makes up from the OpenAPI document, through the emulated API Gateway.

It looks for answers that the document does not know, and for what breaks the gateway. Of what it
sends to cover the document systematically, a plain run has one request of each kind for each value
of an operation, such as one with a wrong type for each parameter; --all has every one.
"""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.meta import CoveragePhaseData
from schemathesis.specs.openapi import checks

from chalicelib.web.pages import openapi_document
from endpoint.emulator.apigateway import packaged_gateway
from tests.conftest import ALL
from tests.end_to_end.account import ENDPOINT

# API Gateway answers a method that a route has not with 403, and does not call the gateway.
NO_OTHER_METHODS = {"phases": {"coverage": {"unexpected-methods": []}}}
schema = schemathesis.openapi.from_dict(
    openapi_document(""), config=SchemathesisConfig.from_dict(NO_OTHER_METHODS)
)
# Every check of schemathesis's but this: what the contract refuses cannot all be said in JSON
# Schema, such as a prompt of white space alone, or an adapter that the model does not have.
EXCLUDED = [checks.positive_data_acceptance]
FEW = settings(
    max_examples=60 if ALL else 12,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

covered = set()


def is_like_another(case):
    """Return whether a request covers what an earlier one has covered."""
    covers = case.meta.phase.data
    if ALL or not isinstance(covers, CoveragePhaseData):
        return False
    place = (case.operation.label, covers.parameter_location, covers.parameter, covers.location)
    before = len(covered)
    covered.add((place, covers.scenario))
    return len(covered) == before


@pytest.fixture(scope="module")
def gateway(package, gateway_environment):
    """A gateway with one model, which paints at once, and all the time there is."""
    environment = {
        **gateway_environment,
        "EASEL_MODELS": json.dumps({"sd": {"endpoint": ENDPOINT}}),
        "EASEL_DEADLINE_SECONDS": "24",
    }
    with packaged_gateway.serve(package, environment=environment) as server:
        yield f"{server.url}/api"


@pytest.mark.slow
@schema.parametrize()
@FEW
def test_every_answer_is_one_that_the_document_knows(case, gateway):
    if is_like_another(case):
        return
    response = case.call(base_url=gateway, timeout=60)
    # Too long for API Gateway, which does not call the gateway then.
    if response.status_code != 431:
        case.validate_response(response, excluded_checks=EXCLUDED)
