"""The function behind a deployed API, invoked as pipelines and EventBridge do."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from endpoint.emulator.aws_server import AwsServer
from endpoint.emulator.lambda_.lambda_runtime import RUNTIME
from endpoint.emulator.process.clients import Clients
from tests.endpoint.emulator.doubles import REGION

ROLE = "arn:aws:iam::123456789012:role/easel"


@pytest.fixture
def deployed(package):
    """A packaged gateway in the account, under the name `double`, while the test runs."""
    template = json.loads((package / "sam.json").read_text())["Resources"]
    with AwsServer().serve() as aws:
        clients = Clients(lambda: aws.url)
        functions, apis = clients.get("lambda", REGION), clients.get("apigateway", REGION)
        clients.get("iam", REGION).create_role(RoleName="easel", AssumeRolePolicyDocument="{}")
        arn = functions.create_function(
            FunctionName="double",
            Runtime=RUNTIME,
            Role=ROLE,
            Handler="app.app",
            Code={"ZipFile": (package / "deployment.zip").read_bytes()},
            Environment={"Variables": {"A": "1"}},
            Timeout=20,
        )["FunctionArn"]
        api = apis.create_rest_api(name="double")["id"]
        body = template["RestAPI"]["Properties"]["DefinitionBody"]
        for methods in body["paths"].values():
            for method in methods.values():
                own = method["x-amazon-apigateway-integration"]
                if own.get("type") != "mock":
                    own["uri"] = (
                        f"arn:aws:apigateway:{REGION}:lambda:path/functions/{arn}/invocations"
                    )
        apis.put_rest_api(restApiId=api, mode="overwrite", body=json.dumps(body).encode())
        apis.create_deployment(restApiId=api, stageName="api")
        yield functions
        apis.delete_rest_api(restApiId=api)
        functions.delete_function(FunctionName="double")
        clients.get("iam", REGION).delete_role(RoleName="easel")


def test_invoke_reaches_the_function_behind_the_api(deployed):
    event = {
        "requestContext": {"httpMethod": "GET", "resourcePath": "/do/{what}", "path": "/do/x"},
        "resource": "/do/{what}",
        "path": "/do/x",
        "httpMethod": "GET",
        "headers": {"Accept": "*/*"},
        "multiValueHeaders": {},
        "multiValueQueryStringParameters": None,
        "pathParameters": {"what": "nothing"},
        "stageVariables": None,
        "body": None,
        "isBase64Encoded": False,
    }
    answer = deployed.invoke(FunctionName="double", Payload=json.dumps(event).encode())
    assert json.loads(answer["Payload"].read())["statusCode"] == 200
    ends = event | {"pathParameters": {"what": "exit"}}
    failed = deployed.invoke(FunctionName="double", Payload=json.dumps(ends).encode())
    assert failed["FunctionError"] == "Unhandled"
    assert json.loads(failed["Payload"].read())["errorType"] == "Runtime.ExitError"
    later = deployed.invoke(FunctionName="double", InvocationType="Event", Payload=b"{}")
    assert later["StatusCode"] == 202
    assert deployed.invoke(FunctionName="double", InvocationType="DryRun")["StatusCode"] == 204
    with pytest.raises(ClientError, match=r"\(ResourceNotFoundException\)"):
        deployed.invoke(FunctionName="unknown")
