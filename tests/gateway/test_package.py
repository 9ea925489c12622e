"""What `chalice package` makes of the gateway."""

import gzip
import json
import zipfile
from pathlib import Path

import pytest
from cfnlint.api import lint_all

from chalicelib.web.pages import openapi_document
from tests.packages import package_gateway


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return package_gateway(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def template(package):
    return json.loads((package / "sam.json").read_text())


def test_the_template_is_clean(package):
    findings = lint_all((package / "sam.json").read_text())

    assert [str(each) for each in findings if each.rule.severity != "informational"] == []


def test_the_function_is_set_up_to_answer_before_api_gateway_gives_up(template):
    function = template["Resources"]["APIHandler"]["Properties"]
    variables = function["Environment"]["Variables"]

    assert float(variables["EASEL_DEADLINE_SECONDS"]) + 2 < function["Timeout"] <= 29
    assert template["Resources"]["RestAPI"]["Properties"]["EndpointConfiguration"] == "REGIONAL"
    assert template["Resources"]["RestAPI"]["Properties"]["StageName"] == "api"


def test_every_route_of_the_document_is_one_of_api_gateways_and_every_body_can_be_binary(template):
    document = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]

    assert document["x-amazon-apigateway-binary-media-types"] == ["*/*"]
    described = openapi_document("")["paths"]
    assert sorted(document["paths"]) == sorted(described)
    for path, methods in document["paths"].items():
        assert set(methods) - {"options"} == set(described[path])


def test_the_role_has_the_required_permissions_and_no_others(template):
    policy = template["Resources"]["ApiHandlerRole"]["Properties"]["Policies"][0]["PolicyDocument"]

    actions = [action for statement in policy["Statement"] for action in statement["Action"]]
    assert sorted(set(actions)) == [
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "s3:DeleteObject",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:PutObject",
        "sagemaker:InvokeEndpoint",
        "sagemaker:InvokeEndpointAsync",
    ]
    for statement in policy["Statement"]:
        assert all("easel-" in resource for resource in statement["Resource"])


def test_the_zip_holds_what_is_needed_and_fits_lambda(package):
    with zipfile.ZipFile(package / "deployment.zip") as archive:
        names = set(archive.namelist())
        unpacked = sum(each.file_size for each in archive.infolist())

    assert {"app.py", "chalicelib/sentences.json", "chalicelib/pages/home.html"} <= names
    assert Path(package / "deployment.zip").stat().st_size < 50_000_000
    assert unpacked < 250_000_000
    packages = {name.split("/")[0] for name in names}
    assert {"boto3", "botocore", "essential_generators", "aws_lambda_powertools"} <= packages
    assert not packages & {"torch", "sagemaker", "numpy", "PIL", "moto"}


def test_the_boto3_inside_is_new_enough_for_asynchronous_pictures(package):
    """Inline bodies and file names came to InvokeEndpointAsync with botocore 1.43.30."""
    path = "botocore/data/sagemaker-runtime/2017-05-13/service-2.json"
    with zipfile.ZipFile(package / "deployment.zip") as archive:
        paths = [name for name in archive.namelist() if name.startswith(path)]
        assert paths
        content = archive.read(paths[0])
    if paths[0].endswith(".gz"):
        content = gzip.decompress(content)
    members = json.loads(content)["shapes"]["InvokeEndpointAsyncInput"]["members"]

    assert {"Body", "Filename", "S3OutputPathExtension"} <= set(members)


def test_packaging_twice_gives_the_same_zip(package, tmp_path):
    again = package_gateway(tmp_path)

    assert (again / "deployment.zip").read_bytes() == (package / "deployment.zip").read_bytes()
