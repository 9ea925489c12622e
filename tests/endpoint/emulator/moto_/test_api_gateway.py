from __future__ import annotations

import json

from tests.endpoint.emulator.doubles import REGION


def test_chalices_swagger_can_be_imported_and_overwritten(clients, package):
    template = json.loads((package / "sam.json").read_text("utf-8"))
    document = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
    gateway = clients.get("apigateway", REGION)
    api = gateway.import_rest_api(body=json.dumps(document))["id"]
    gateway.put_rest_api(restApiId=api, mode="overwrite", body=json.dumps(document))
    paths = {resource["path"] for resource in gateway.get_resources(restApiId=api)["items"]}
    assert {"/health", "/png/{text}", "/do/{what}"} <= paths
