from __future__ import annotations

import json

import botocore.session
import pytest

from endpoint.emulator.sagemaker.errors import (
    InternalDependency,
    InternalFailure,
    ModelError,
    ModelNotReady,
    ServiceUnavailable,
    ValidationError,
)


@pytest.fixture(scope="module")
def shapes():
    model = botocore.session.Session().get_service_model("sagemaker-runtime")
    return {
        shape.name: shape.metadata["error"]["httpStatusCode"]
        for name in model.shape_names
        if "error" in (shape := model.shape_for(name)).metadata
    }


@pytest.mark.parametrize(
    "kind",
    [
        ValidationError,
        ModelError,
        ModelNotReady,
        InternalFailure,
        ServiceUnavailable,
        InternalDependency,
    ],
)
def test_every_name_and_status_equals_botocores_model(kind, shapes):
    assert kind.code is not None
    assert shapes[kind.code] == kind.status


def test_no_error_of_botocores_model_is_missing(shapes):
    assert set(shapes) == {
        "ValidationError",
        "ModelError",
        "ModelNotReadyException",
        "InternalFailure",
        "ServiceUnavailable",
        "InternalDependencyException",
    }


@pytest.mark.parametrize(("status", "side"), [(400, "client"), (500, "server"), (0, "server")])
def test_a_model_error_names_the_side_at_fault(status, side):
    error = ModelError("sd", "eu-west-1", "123456789012", status, "oh")
    assert str(error).startswith(f'Received {side} error ({status}) from primary with message "oh"')
    assert "group=/aws/sagemaker/Endpoints/sd in account 123456789012" in str(error)


def test_a_long_original_message_is_truncated_to_the_models_limit():
    error = ModelError("sd", "eu-west-1", "123456789012", 500, "x" * 5000)
    body = json.loads(error.response().get_data())
    assert len(body["OriginalMessage"]) == 2048
