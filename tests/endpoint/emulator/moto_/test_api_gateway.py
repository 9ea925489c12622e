from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from tests.endpoint.emulator.doubles import REGION


def test_chalices_swagger_can_be_imported_and_overwritten(clients, package):
    template = json.loads((package / "sam.json").read_text("utf-8"))
    document = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
    gateway = clients.get("apigateway", REGION)
    api = gateway.import_rest_api(body=json.dumps(document))["id"]
    gateway.put_rest_api(restApiId=api, mode="overwrite", body=json.dumps(document))
    paths = {resource["path"] for resource in gateway.get_resources(restApiId=api)["items"]}
    assert {"/health", "/png/{text}", "/do/{what}"} <= paths


def test_a_deployed_api_without_its_function_is_a_502(aws, clients, package):
    template = json.loads((package / "sam.json").read_text("utf-8"))
    document = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
    gateway = clients.get("apigateway", REGION)
    api = gateway.import_rest_api(body=json.dumps(document))["id"]
    gateway.create_deployment(restApiId=api, stageName="gone")
    try:
        with pytest.raises(urllib.error.HTTPError, match="502") as caught:
            urllib.request.urlopen(f"{aws.url}/gone/health", timeout=10)
        assert "does not exist" in caught.value.read().decode()
    finally:
        gateway.delete_rest_api(restApiId=api)
