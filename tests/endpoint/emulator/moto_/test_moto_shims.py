from __future__ import annotations

import gc
import json
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import backends
from moto.core import errors
from moto.s3.models import FakeKey

from endpoint.emulator.moto_ import service_quotas
from endpoint.emulator.process.clients import Clients
from tests.endpoint.emulator.conftest import BUCKET, REGION


@pytest.fixture
def sagemaker(clients: Clients) -> Any:
    return clients.get("sagemaker", REGION)


ROLE = "arn:aws:iam::123456789012:role/easel"


def variant(instance_type: str, model: str = "some") -> list[dict[str, Any]]:
    return [
        {
            "VariantName": "AllTraffic",
            "ModelName": model,
            "InstanceType": instance_type,
            "InitialInstanceCount": 1,
        }
    ]


@pytest.mark.parametrize(
    "kind", ["ml.g4dn.xlarge", "ml.g5.xlarge", "ml.g6e.xlarge", "ml.inf2.xlarge"]
)
def test_current_instance_types_are_taken(sagemaker: Any, kind: str) -> None:
    name = kind.replace(".", "-")
    sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "image"}
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=variant(kind, name)
    )
    described = sagemaker.describe_endpoint_config(EndpointConfigName=name)
    assert described["ProductionVariants"][0]["InstanceType"] == kind


def test_what_is_no_instance_type_is_refused(sagemaker: Any) -> None:
    with pytest.raises(ClientError, match="not an instance type"):
        sagemaker.create_endpoint_config(
            EndpointConfigName="wrong", ProductionVariants=variant("g5.xlarge")
        )


def test_descriptions_hold_no_empty_values(sagemaker: Any) -> None:
    sagemaker.create_model(
        ModelName="plain",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "image"},
    )
    described = sagemaker.describe_model(ModelName="plain")
    assert described["ModelName"] == "plain"
    assert not [name for name, value in described.items() if value in ({}, [], "")]


def test_an_endpoint_cannot_be_made_twice(sagemaker: Any, endpoint: str) -> None:
    with pytest.raises(ClientError, match="Cannot create already existing endpoint"):
        sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)


def test_an_asynchronous_endpoint_describes_itself_as_one(
    sagemaker: Any, endpoint: str, async_endpoint: str
) -> None:
    described = sagemaker.describe_endpoint(EndpointName=async_endpoint)
    output = described["AsyncInferenceConfig"]["OutputConfig"]
    assert output["S3FailurePath"] == f"s3://{BUCKET}/failed"
    assert "AsyncInferenceConfig" not in sagemaker.describe_endpoint(EndpointName=endpoint)


def test_policies_cannot_be_simulated(clients: Clients) -> None:
    iam = clients.get("iam", REGION)
    with pytest.raises(ClientError) as caught:
        iam.simulate_principal_policy(
            PolicySourceArn="arn:aws:iam::123456789012:role/easel", ActionNames=["s3:GetObject"]
        )
    assert caught.value.response["Error"]["Code"] == "AccessDenied"


def test_other_form_posts_still_reach_moto(clients: Clients) -> None:
    identity = clients.get("sts", REGION).get_caller_identity()
    assert identity["Account"] == "123456789012"


def test_quotas_can_be_read_and_set(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(service_quotas.QUOTAS, "ml.g5.xlarge", 0.0)
    quotas = clients.get("service-quotas", REGION).list_service_quotas(ServiceCode="sagemaker")
    values = {quota["QuotaName"]: quota["Value"] for quota in quotas["Quotas"]}
    assert values["ml.g5.xlarge for endpoint usage"] == 0
    assert values["ml.g6.xlarge for endpoint usage"] == 2


def test_chalices_swagger_can_be_imported_and_overwritten(clients: Clients, package: Path) -> None:
    template = json.loads((package / "sam.json").read_text("utf-8"))
    document = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
    gateway = clients.get("apigateway", REGION)
    api = gateway.import_rest_api(body=json.dumps(document))["id"]
    gateway.put_rest_api(restApiId=api, mode="overwrite", body=json.dumps(document))
    paths = {resource["path"] for resource in gateway.get_resources(restApiId=api)["items"]}
    assert {"/health", "/png/{text}", "/do/{what}"} <= paths


def test_what_moto_would_look_up_at_each_call_is_looked_up_once(s3: Any) -> None:
    assert "sagemaker" in backends.list_of_moto_modules()
    assert backends.list_of_moto_modules() is backends.list_of_moto_modules()
    assert errors.ErrorLookupFactory() is errors.ErrorLookupFactory()


def test_objects_that_are_replaced_or_deleted_leave_nothing_behind(s3: Any) -> None:
    def put(number: int) -> None:
        s3.put_object(Bucket=BUCKET, Key="replaced", Body=str(number).encode())
        s3.put_object(Bucket=BUCKET, Key="deleted", Body=b"x")
        s3.delete_object(Bucket=BUCKET, Key="deleted")

    for number in range(20):
        put(number)

    # The thread that answered the last request may still hold what it answered with.
    until = time.monotonic() + 60
    while objects_in_memory() > 1:
        assert time.monotonic() < until, "older objects are still in memory"
        time.sleep(0.05)
    assert s3.get_object(Bucket=BUCKET, Key="replaced")["Body"].read() == b"19"


def objects_in_memory() -> int:
    gc.collect()
    objects = [item for item in gc.get_objects() if type(item) is FakeKey]
    return sum(item.name in {"replaced", "deleted"} for item in objects)
